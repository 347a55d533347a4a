"""The heads on regions: class and box of each proposal, and its mask and keypoints where there are heads for them."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.roi_heads import (
    RoIHeads,
    keypointrcnn_inference,
    keypointrcnn_loss,
    keypoints_to_heatmap,
    maskrcnn_inference,
)
from torchvision.ops import MultiScaleRoIAlign, clip_boxes_to_image, remove_small_boxes

from botvision.tasks.detection.config import DetectorConfig
from botvision.tasks.detection.mask_targets import mask_targets
from botvision.tasks.detection.ranking import best_apart
from botvision.training.sharing import mean_of_batch

KEYPOINT_MAP = 56
"""Cells a side of the heat map of a keypoint (He et al. 2017)."""
LEAST_SIDE = 1e-2
"""Detections with a shorter side, in pixels, are left out, as torchvision does."""
BOX_POOL, MASK_POOL = 7, 14
"""Cells a side that a region is pooled to for the box head, and for the other heads (He et al. 2017)."""


def box_heads(config: DetectorConfig, num_classes: int) -> dict[str, Any]:
    """Faster R-CNN's two fully connected layers, and the layers for classes and boxes on them.

    Args:
        config: the detector as data.
        num_classes: K, without background.
    """
    head = NormedBoxHead if config.head_norm else TwoMLPHead
    return {
        "box_head": head(config.fpn_channels * BOX_POOL**2, config.box_head_width),
        "box_predictor": FastRCNNPredictor(config.box_head_width, num_classes + 1),
    }


class NormedBoxHead(TwoMLPHead):
    """The two fully connected layers with a batch norm behind each."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__(in_channels, width)
        self.norm6, self.norm7 = nn.BatchNorm1d(width), nn.BatchNorm1d(width)

    def forward(self, regions: Tensor) -> Tensor:
        """Pooled regions (R, C, 7, 7) -> features (R, width)."""
        hidden = F.relu(self.norm6(self.fc6(regions.flatten(start_dim=1))))
        return F.relu(self.norm7(self.fc7(hidden)))


class RegionHeads(RoIHeads):
    """Fast R-CNN's box head (Ren et al. 2015) and, where they are given, heads for masks and keypoints (He et al.).

    Matching, sampling, pooling, decoding, NMS and the loss of keypoints are torchvision's. The rest is ours for four
    reasons: the box loss averages a Huber loss over the foreground coordinates, as the authors' detection code does;
    the mask loss takes masks that are stored inside their boxes (``mask_targets``); boxes are decoded in float32 where
    the network runs in bfloat16; and of boxes with equal scores the first ones are taken (``ranking``).

    Args:
        config: the detector as data.
        box_head: from pooled regions (R, fpn_channels, 7, 7) to features (R, box_head_width).
        box_predictor: from these to class logits (R, K + 1) and box deltas (R, 4 * (K + 1)).
        mask_head: from pooled regions (R, fpn_channels, 14, 14) to features; None for a detector without masks.
        mask_predictor: from these to mask logits (R, K + 1, 28, 28).
        keypoint_head: from pooled regions (R, fpn_channels, 14, 14) to features; None for a detector without keypoints.
        keypoint_predictor: from these to a heat map of logits for each keypoint, (R, keypoints, 56, 56).
    """

    def __init__(
        self,
        config: DetectorConfig,
        *,
        box_head: TwoMLPHead,
        box_predictor: FastRCNNPredictor,
        mask_head: nn.Module | None = None,
        mask_predictor: nn.Module | None = None,
        keypoint_head: nn.Module | None = None,
        keypoint_predictor: nn.Module | None = None,
    ) -> None:
        # The authors' code takes one sample in the middle of each cell (ops/spatial_transform_ops.py).
        samples = 1 if config.variant == "authors" else 2
        pool = partial(MultiScaleRoIAlign, ["p2", "p3", "p4", "p5"], sampling_ratio=samples)
        super().__init__(
            pool(BOX_POOL),
            box_head,
            box_predictor,
            fg_iou_thresh=config.roi_iou,
            bg_iou_thresh=config.roi_iou,
            batch_size_per_image=config.roi_samples,
            positive_fraction=config.roi_foreground,
            bbox_reg_weights=None,
            score_thresh=config.score_threshold,
            nms_thresh=config.detection_nms,
            detections_per_img=config.detections,
            mask_roi_pool=pool(MASK_POOL) if mask_head is not None else None,
            mask_head=mask_head,
            mask_predictor=mask_predictor,
            keypoint_roi_pool=pool(MASK_POOL) if keypoint_head is not None else None,
            keypoint_head=keypoint_head,
            keypoint_predictor=keypoint_predictor,
        )
        self.huber_delta = config.roi_huber_delta
        self.reset_box_head()

    def reset_box_head(self) -> None:
        """Glorot for the two wide layers, N(0, 0.01) for classes and N(0, 0.001) for boxes, as the authors' code."""
        for layer in (self.box_head.fc6, self.box_head.fc7):
            nn.init.xavier_uniform_(layer.weight)
        for layer, std in ((self.box_predictor.cls_score, 0.01), (self.box_predictor.bbox_pred, 0.001)):
            nn.init.normal_(layer.weight, std=std)
        for layer in (self.box_head.fc6, self.box_head.fc7, *self.box_predictor.children()):
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Turn proposals into detections, or into losses in training.

        Args:
            features: the pyramid p2 to p6.
            proposals: (P, 4) of each image, in pixels.
            image_shapes: (height, width) of each image inside its padding, in pixels.
            targets: "boxes" (N, 4), "labels" (N,) and, for a mask head, "masks" (N, 112, 112) of each image, and
                optionally "has_mask" (N,) bool; for a keypoint head "keypoints" (N, K, 3); needed in training.

        Returns:
            In test, for each image "boxes" (D, 4), "labels" (D,), "scores" (D,) and, from a mask head, "masks"
            (D, 1, 28, 28), probabilities inside the box, from a keypoint head "keypoints" (D, K, 3); in training the
            losses "class", "box" and, where there are the heads, "mask" and "keypoint". The other one is empty.
        """
        if self.training:
            return [], self.losses(features, proposals, targets)
        logits, deltas = self.classify(features, proposals)
        found = self.best_detections(logits, deltas, proposals, image_shapes)
        boxes, labels = found["boxes"], found["labels"]
        if self.has_mask():
            found["masks"] = maskrcnn_inference(self.segment(features, boxes), labels)
        if self.has_keypoint():
            found["keypoints"] = places(self.locate(features, boxes), boxes)
        return [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)], {}

    def best_detections(
        self, logits: Tensor, deltas: Tensor, proposals: list[Tensor], sizes: list[tuple[int, int]]
    ) -> dict[str, list[Tensor]]:
        """The best boxes of each class, those that overlap left out.

        Args:
            logits: (R, K + 1), of all R proposals.
            deltas: (R, 4 * (K + 1)).
            proposals: (P, 4) of each image, in pixels.
            sizes: (height, width) of each image inside its padding, in pixels.

        Returns:
            Of each image "boxes" (D, 4), "labels" (D,) from 1 and "scores" (D,), best first.
        """
        counts = [len(own) for own in proposals]
        decoded = self.box_coder.decode(deltas, proposals)[:, 1:].split(counts)
        probabilities = logits.softmax(dim=-1)[:, 1:].split(counts)
        found: dict[str, list[Tensor]] = {"boxes": [], "labels": [], "scores": []}
        for boxes, scores, size in zip(decoded, probabilities, sizes, strict=True):
            places = (scores > self.score_thresh).flatten().nonzero()[:, 0]
            boxes = clip_boxes_to_image(boxes.reshape(-1, 4)[places], size)
            large = remove_small_boxes(boxes, LEAST_SIDE)
            boxes, candidates = boxes[large], scores.flatten()[places[large]]
            labels = places[large] % scores.shape[1] + 1
            best = best_apart(boxes, candidates, labels, self.nms_thresh, self.detections_per_img)
            for name, values in (("boxes", boxes), ("labels", labels), ("scores", candidates)):
                found[name].append(values[best])
        return found

    def losses(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        targets: list[dict[str, Tensor]] | None,
    ) -> dict[str, Tensor]:
        """The losses of a training step; arguments as in :meth:`forward`."""
        regions, matched, labels, wanted = self.select_training_samples(proposals, targets)
        logits, deltas = self.classify(features, regions)
        label = torch.cat(labels)
        foreground = label > 0
        own_deltas = deltas.unflatten(1, (-1, 4))[foreground, label[foreground]]
        box = deltas.sum() * 0  # keeps the layer in the graph where no region is an object
        if len(own_deltas):
            box = F.huber_loss(own_deltas, torch.cat(wanted)[foreground], delta=self.huber_delta)
        losses = {
            "class": mean_of_batch(F.cross_entropy(logits, label), len(label)),
            "box": mean_of_batch(box, len(own_deltas)),
        }
        if self.has_mask():
            losses["mask"] = self.mask_loss(features, regions, matched, labels, targets or [])
        if self.has_keypoint():
            # Objects without keypoints teach boxes and classes alone.
            known = [(target["keypoints"][..., 2] > 0).any(dim=1) for target in targets or []]
            boxes, objects = known_objects(regions, matched, labels, known)
            points = [target["keypoints"] for target in targets or []]
            loss = keypointrcnn_loss(self.locate(features, boxes), boxes, points, objects)
            losses["keypoint"] = mean_of_batch(loss, seen_keypoints(boxes, points, objects))
        return losses

    def mask_loss(
        self,
        features: dict[str, Tensor],
        regions: list[Tensor],
        matched: list[Tensor],
        labels: list[Tensor],
        targets: list[dict[str, Tensor]],
    ) -> Tensor:
        """Cross-entropy of the masks of the regions that are objects.

        Args:
            features: the pyramid p2 to p6.
            regions, matched, labels: (R, 4), (R,) and (R,) of each image: sampled regions, the object that each of them
                is matched with, and its label, 0 for background.
            targets: "boxes", "labels", "masks" and, where some masks are not known, "has_mask" (N,) of each image.
        """
        # Objects whose mask is not known teach boxes and classes alone.
        known = [target.get("has_mask", torch.ones_like(target["labels"], dtype=torch.bool)) for target in targets]
        boxes, objects = known_objects(regions, matched, labels, known)
        own = {
            name: torch.cat([target[name][number] for target, number in zip(targets, objects, strict=True)])
            for name in ("boxes", "labels", "masks")
        }
        logits = self.segment(features, boxes)
        loss = logits.sum()  # keeps the head in the graph where no region is an object
        if len(logits):
            wanted = mask_targets(own["masks"], own["boxes"], torch.cat(boxes))
            chosen = logits[torch.arange(len(logits), device=logits.device), own["labels"]]
            loss = F.binary_cross_entropy_with_logits(chosen, wanted)
        return mean_of_batch(loss, len(logits))

    def classify(self, features: dict[str, Tensor], regions: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Class logits (R, K + 1) and box deltas (R, 4 * (K + 1)) of all regions of the batch, in float32."""
        pooled = self.box_roi_pool(features, regions, input_shapes(features))
        logits, deltas = self.box_predictor(self.box_head(pooled))
        return logits.float(), deltas.float()

    def segment(self, features: dict[str, Tensor], regions: list[Tensor]) -> Tensor:
        """Mask logits (R, K + 1, 28, 28) of all regions of the batch, in float32."""
        pooled = self.mask_roi_pool(features, regions, input_shapes(features))
        return self.mask_predictor(self.mask_head(pooled)).float()

    def locate(self, features: dict[str, Tensor], regions: list[Tensor]) -> Tensor:
        """Heat maps of the keypoints of all regions of the batch: logits (R, keypoints, 56, 56), in float32."""
        pooled = self.keypoint_roi_pool(features, regions, input_shapes(features))
        return self.keypoint_predictor(self.keypoint_head(pooled)).float().contiguous()  # as torchvision's loss needs


def known_objects(
    regions: list[Tensor], matched: list[Tensor], labels: list[Tensor], known: list[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """The regions that are objects of which a head can learn, and the object of each.

    Args:
        regions, matched, labels: (R, 4), (R,) and (R,) of each image: sampled regions, the object that each of them
            is matched with, and its label, 0 for background.
        known: (N,) bool of each image: whether its object has what the head learns.
    """
    boxes, objects = [], []
    for region, match, label, has in zip(regions, matched, labels, known, strict=True):
        own = label.nonzero()[:, 0]
        own = own[has[match[own]]]
        boxes.append(region[own])
        objects.append(match[own])
    return boxes, objects


def seen_keypoints(boxes: list[Tensor], points: list[Tensor], objects: list[Tensor]) -> Tensor:
    """How many keypoints the loss is a mean over: those that are seen, inside the region of their object.

    Args:
        boxes: (R, 4) of each image, regions in pixels.
        points: (N, K, 3) of each image, x, y and visibility of its objects' keypoints.
        objects: (R,) of each image, the object of each region.
    """
    maps = (
        keypoints_to_heatmap(keypoints[own], regions, KEYPOINT_MAP)
        for regions, keypoints, own in zip(boxes, points, objects, strict=True)
    )
    return torch.stack([valid.sum() for _, valid in maps]).sum()


def places(heat_maps: Tensor, boxes: list[Tensor]) -> list[Tensor]:
    """Where the keypoints of the detections of each image are: (D, K, 3), x and y in pixels, and a score.

    The place is the largest value of the heat map, scaled to the box; the score is the largest probability of a cell.

    Args:
        heat_maps: logits (R, K, 56, 56) of all detections of the batch.
        boxes: (D, 4) of each image, in pixels.
    """
    found, _ = keypointrcnn_inference(heat_maps, boxes)
    scores = heat_maps.flatten(start_dim=2).softmax(dim=2).amax(dim=2, keepdim=True)
    in_images = scores.split([len(own) for own in boxes])
    return [torch.cat([points[..., :2], own], dim=2) for points, own in zip(found, in_images, strict=True)]


def input_shapes(features: dict[str, Tensor]) -> list[tuple[int, int]]:
    """(height, width) of the network's input, padding included, once for each image, in pixels.

    The pooling computes the strides of the maps from it, once, at its first call: the size of an image without its
    padding would make it pool from the wrong places.
    """
    finest = features["p2"]
    return [(4 * finest.shape[-2], 4 * finest.shape[-1])] * len(finest)
