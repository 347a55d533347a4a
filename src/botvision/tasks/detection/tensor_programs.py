"""Detectors in test as programs of tensors alone, for batches and images of any size: what ``torch.export`` can trace.

Each image has the same number of detections, best first; those that are missing have score 0. Sizes that depend on
what is in the images occur only inside: between a choice (``nonzero``, NMS) and the tensor of known size that its
result is written into.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import maskrcnn_inference
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.ops import MultiScaleRoIAlign, roi_align

from botvision.tasks.detection.detr import Detr
from botvision.tasks.detection.ranking import best_first
from botvision.tasks.detection.rcnn import RCNN
from botvision.tasks.detection.regions import LEAST_SIDE
from botvision.tasks.detection.suppression import ABSENT, suppressed

MOST_CANDIDATES = 4096
"""Detections of an image that compete, the best ones; torchvision lets all above the score threshold. As the 100 best
that are left count, the rest matters only to images with more candidates of which fewer than 100 are left."""


class DetrProgram(nn.Module):
    """A DETR in test.

    Shape:
        images (B, C, H, W), pixels as the detector takes them, padding at the bottom and right, and content_size
        (B, 2), int64, the height and width of each image without its padding -> "boxes" (B, D, 4), corners in pixels of
        the input, "labels" (B, D), from 1, and "scores" (B, D).
    """

    def __init__(self, model: Detr) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, content_size: Tensor) -> dict[str, Tensor]:
        """See the shapes of the class."""
        logits, boxes = self.model.answers(images, content_size)
        scale = content_size.flip(1).repeat(1, 2)
        boxes, labels, scores = self.model.best(logits[-1], boxes[-1] * scale[:, None])
        return {"boxes": boxes, "labels": labels, "scores": scores}


class RCNNProgram(nn.Module):
    """A two-stage detector in test.

    Shape:
        as of :class:`DetrProgram`, and "masks" (B, D, 28, 28) of a detector with a mask head, probabilities inside the
        box. What is no detection has score 0 and label 0.
    """

    def __init__(self, model: RCNN) -> None:
        super().__init__()
        self.model = model
        side = 4 * model.trunk.config.reductions[-1]
        with torch.no_grad():  # torchvision's pooling learns the strides of the maps at its first call
            model(torch.zeros(1, len(model.config.mean), side, side))

    def forward(self, images: Tensor, content_size: Tensor) -> dict[str, Tensor]:
        """See the shapes of the class."""
        pixels = self.model.normalised(images)
        features = self.model.backbone(pixels)
        limits = content_size.flip(1).repeat(1, 2)[:, None].to(pixels.dtype)  # (B, 1, 4)
        boxes, scores = self.propose(pixels, features, limits)
        boxes, labels, scores = self.classify(list(features.values()), boxes, scores > ABSENT, limits)
        found = scores > ABSENT
        detections = {"boxes": boxes * found[..., None], "labels": labels * found, "scores": scores.where(found, 0)}
        if self.model.roi_heads.has_mask():
            detections["masks"] = self.segment(list(features.values()), detections["boxes"], detections["labels"])
        return detections

    def propose(self, pixels: Tensor, features: dict[str, Tensor], limits: Tensor) -> tuple[Tensor, Tensor]:
        """Proposals of each image, (B, P, 4) in pixels, best first, and their scores (B, P)."""
        rpn, maps, batch = self.model.rpn, list(features.values()), pixels.shape[0]
        scores_by_level, deltas_by_level = rpn.head(maps)
        sizes = [level.shape[1] * level.shape[2] * level.shape[3] for level in scores_by_level]
        scores, deltas = concat_box_prediction_layers(scores_by_level, deltas_by_level)
        anchors = rpn.anchors(ImageList(pixels, [(pixels.shape[2], pixels.shape[3])]), maps)[0]
        boxes = rpn.box_coder.decode_single(deltas, anchors.repeat(batch, 1)).unflatten(0, (batch, -1))
        scores = scores.unflatten(0, (batch, -1))[..., 0]
        logits, chosen = best_of_levels(scores, sizes, rpn.pre_nms_top_n())
        boxes = clipped(rows_of(boxes, chosen), limits)
        scores = scores.sigmoid().gather(1, chosen)
        scores = scores.masked_fill((logits == ABSENT) | ~has_sides(boxes, rpn.min_size), ABSENT)
        levels = (torch.arange(scores.shape[1], device=boxes.device) // rpn.pre_nms_top_n()).expand_as(scores)
        scores = suppressed(boxes, scores, levels, len(sizes), rpn.nms_thresh)
        scores, chosen = best_first(scores, rpn.post_nms_top_n())
        return rows_of(boxes, chosen), scores

    def classify(
        self, maps: list[Tensor], proposals: Tensor, is_proposal: Tensor, limits: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (B, D, 4), labels (B, D) and scores (B, D), which are -inf where there is no detection."""
        heads, (batch, count) = self.model.roi_heads, proposals.shape[:2]
        own = chosen_rows(is_proposal)
        pooled = pool(heads.box_roi_pool, maps, regions_of(proposals)[own])
        logits, deltas = (
            part.new_zeros(batch * count, part.shape[1]).index_put((own,), part)
            for part in heads.box_predictor(heads.box_head(pooled))
        )
        decoded = heads.box_coder.decode_single(deltas, proposals.flatten(0, 1)).unflatten(1, (-1, 4))[:, 1:]
        classes = decoded.shape[1]
        boxes = clipped(decoded.reshape(batch, count * classes, 4), limits)
        scores = logits.softmax(dim=-1)[:, 1:].reshape(batch, count, classes)
        scores = scores.masked_fill(~is_proposal[..., None] | (scores <= heads.score_thresh), ABSENT).flatten(1)
        scores = scores.masked_fill(~has_sides(boxes, LEAST_SIDE), ABSENT)
        scores, best = best_first(scores, MOST_CANDIDATES)
        boxes, labels = rows_of(boxes, best), best % classes
        scores = suppressed(boxes, scores, labels, classes, heads.nms_thresh)
        scores, chosen = best_first(scores, heads.detections_per_img)
        return rows_of(boxes, chosen), labels.gather(1, chosen) + 1, scores

    def segment(self, maps: list[Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
        """Masks (B, D, 28, 28) of boxes (B, D, 4)."""
        heads, own = self.model.roi_heads, chosen_rows(labels > 0)
        logits = heads.mask_predictor(heads.mask_head(pool(heads.mask_roi_pool, maps, regions_of(boxes)[own])))
        label = labels.flatten()[own]
        (masks,) = maskrcnn_inference(logits, [label])
        masks = masks[:, 0] * (label > 0)[:, None, None]
        whole = masks.new_zeros(labels.shape[0] * labels.shape[1], *masks.shape[1:])
        return whole.index_put((own,), masks).unflatten(0, labels.shape)


def best_of_levels(scores: Tensor, sizes: Sequence[int], most: int) -> tuple[Tensor, Tensor]:
    """The best scores of each level, as many of each, so that all that follows has one shape whatever the image's size.

    Args:
        scores: (B, N), of one level after the other.
        sizes: how many of them are of each level.
        most: how many of each level are taken; what a small level lacks has score -inf.

    Returns:
        Scores (B, levels * most), and where they are among the N.
    """
    best, start = [], 0
    for size in sizes:
        padded = nn.functional.pad(scores[:, start : start + size], (0, most), value=ABSENT)
        values, indices = best_first(padded, most)
        best.append((values, indices.where(values > ABSENT, 0) + start))
        start += size
    return torch.cat([values for values, _ in best], dim=1), torch.cat([indices for _, indices in best], dim=1)


def rows_of(boxes: Tensor, chosen: Tensor) -> Tensor:
    """Boxes (B, N, 4) and indices (B, M) -> (B, M, 4)."""
    return boxes.gather(1, chosen[..., None].expand(-1, -1, 4))


def clipped(boxes: Tensor, limits: Tensor) -> Tensor:
    """Boxes (B, N, 4) inside their image; limits (B, 1, 4)."""
    return boxes.clamp(min=0).minimum(limits)


def has_sides(boxes: Tensor, least: float) -> Tensor:
    """Which boxes (..., 4) are so wide and high."""
    return (boxes[..., 2:] - boxes[..., :2] >= least).all(dim=-1)


def regions_of(boxes: Tensor) -> Tensor:
    """Boxes (B, N, 4) -> (B * N, 5), the number of the image in front, as ``roi_align`` takes them."""
    image = torch.arange(boxes.shape[0], device=boxes.device, dtype=boxes.dtype)
    return torch.cat([image[:, None, None].expand(-1, boxes.shape[1], 1), boxes], dim=2).flatten(0, 1)


def chosen_rows(is_chosen: Tensor) -> Tensor:
    """Where (B, N) is true, as numbers of rows of B * N; and always the first row, so that no head gets none."""
    rows = is_chosen.flatten()
    chosen = (rows | (torch.arange(rows.shape[0], device=rows.device) == 0)).nonzero()[:, 0]
    torch._check(chosen.shape[0] > 0)  # for torch.export, which asks for such hints
    return chosen


def pool(pooling: MultiScaleRoIAlign, maps: Sequence[Tensor], regions: Tensor) -> Tensor:
    """What torchvision's module gives.

    Args:
        pooling: called before, so that it knows the strides of the maps.
        maps: p2 to p5 and more.
        regions: (R, 5), the number of the image and the box in pixels.

    Returns:
        (R, C, side, side).
    """
    levels = pooling.map_levels([regions[:, 1:]])
    pooled = maps[0].new_zeros(regions.shape[0], maps[0].shape[1], *pooling.output_size)
    for level, scale in enumerate(pooling.scales):
        own = (levels == level).nonzero()[:, 0]
        part = roi_align(maps[level], regions[own], pooling.output_size, scale, pooling.sampling_ratio)
        pooled = pooled.index_put((own,), part)
    return pooled
