"""The region proposal network: torchvision's, with the loss of the authors' detection code and full-precision boxes."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead, concat_box_prediction_layers
from torchvision.ops import box_iou, clip_boxes_to_image, remove_small_boxes

from botvision.tasks.detection.config import DetectorConfig
from botvision.tasks.detection.ranking import best_apart, best_first
from botvision.training.sharing import mean_of_batch


class ProposalNetwork(RegionProposalNetwork):
    """Anchors, their scores and boxes, and the best of them (Ren et al. 2015, Faster R-CNN).

    Matching, sampling, decoding and NMS are torchvision's. The rest is ours for three reasons: the box loss averages a
    Huber loss over the foreground coordinates of each level and adds the levels up; boxes are decoded in float32, where
    bfloat16 would round a coordinate of 1000 pixels to a multiple of 4; and of anchors with equal scores the first ones
    are taken (:mod:`~botvision.tasks.detection.ranking`).
    """

    def __init__(self, config: DetectorConfig, strides: tuple[int, ...]) -> None:
        sizes = tuple((config.anchor_scale * stride,) for stride in strides)
        anchors = AnchorGenerator(sizes, (config.anchor_ratios,) * len(strides))
        if config.variant == "authors":
            anchors = CentredAnchors(config, strides)
        head = NormedRPNHead if config.head_norm else RPNHead
        super().__init__(
            anchors,
            head(config.fpn_channels, len(config.anchor_ratios)),
            fg_iou_thresh=config.rpn_foreground_iou,
            bg_iou_thresh=config.rpn_background_iou,
            batch_size_per_image=config.rpn_samples,
            positive_fraction=0.5,
            pre_nms_top_n=dict(zip(("training", "testing"), config.proposals_before_nms, strict=True)),
            post_nms_top_n=dict(zip(("training", "testing"), config.proposals, strict=True)),
            nms_thresh=config.rpn_nms,
        )
        self.strides = strides
        self.huber_delta = config.rpn_huber_delta
        self.box_weight = config.rpn_box_weight

    def forward(
        self, images: ImageList, features: dict[str, Tensor], targets: list[dict[str, Tensor]] | None = None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Propose boxes.

        Args:
            images: the batch and the (height, width) of each image inside its padding, in pixels.
            features: the pyramid p2 to p6.
            targets: "boxes" (N, 4) of each image; needed in training.

        Returns:
            boxes of each image (P, 4) as x1, y1, x2, y2 in pixels, best first; losses "objectness" and "proposal_box"
            in training, none in test.
        """
        maps = list(features.values())
        scores_by_level, deltas_by_level = self.head(maps)
        anchors = self.anchors(images, maps)
        anchors_in_level = [scores[0].numel() for scores in scores_by_level]
        scores, deltas = concat_box_prediction_layers(scores_by_level, deltas_by_level)
        scores, deltas = scores.float(), deltas.float()
        decoded = self.box_coder.decode(deltas.detach(), anchors).view(len(anchors), -1, 4)
        boxes = self.best_boxes(decoded, scores.detach().view(len(anchors), -1), images.image_sizes, anchors_in_level)
        if not self.training:
            return boxes, {}
        if targets is None:
            raise ValueError("targets are needed in training")
        labels, matched = self.assign_targets_to_anchors(anchors, targets)
        wanted = self.box_coder.encode(matched, anchors)
        return boxes, self.losses(scores, deltas, labels, wanted, anchors_in_level)

    def anchors(self, images: ImageList, maps: list[Tensor]) -> list[Tensor]:
        """All anchors of each image, (A, 4) in pixels, in float32 also where the maps are in bfloat16."""
        # The generator takes its precision from the maps; a view of one number in float32 says it without a copy.
        return self.anchor_generator(images, [map.new_zeros((), dtype=torch.float32).expand(map.shape) for map in maps])

    def best_boxes(
        self, boxes: Tensor, scores: Tensor, sizes: list[tuple[int, int]], anchors_in_level: list[int]
    ) -> list[Tensor]:
        """The proposals of each image, (P, 4), best first: the best boxes of each level, those that overlap left out.

        Args:
            boxes: (B, A, 4), decoded.
            scores: (B, A), logits.
            sizes: (height, width) of each image, in pixels.
            anchors_in_level: how many of the A anchors belong to each level.
        """
        chosen, levels, start = [], [], 0
        for number, logits in enumerate(scores.split(anchors_in_level, dim=1)):
            chosen.append(best_first(logits, self.pre_nms_top_n())[1] + start)
            levels.append(torch.full_like(chosen[-1][0], number))
            start += logits.shape[1]
        # Of all anchors at once: how a sigmoid is rounded depends on the place of a number in its tensor.
        scores, candidate_levels, found = scores.sigmoid(), torch.cat(levels), []
        for image, (places, size) in enumerate(zip(torch.cat(chosen, dim=1), sizes, strict=True)):
            candidates = clip_boxes_to_image(boxes[image, places], size)
            large = remove_small_boxes(candidates, self.min_size)
            candidates, own, level = candidates[large], scores[image, places[large]], candidate_levels[large]
            best = best_apart(candidates, own, level, self.nms_thresh, self.post_nms_top_n())
            found.append(candidates[best])
        return found

    def losses(
        self,
        scores: Tensor,
        deltas: Tensor,
        labels: list[Tensor],
        wanted: tuple[Tensor, ...],
        anchors_in_level: list[int],
    ) -> dict[str, Tensor]:
        """Cross-entropy over the sampled anchors; Huber over the positive ones among them.

        Args:
            scores: (B * A, 1), deltas: (B * A, 4), of all A anchors of every image.
            labels: (A,) of each image: 1 object, 0 background, -1 neither.
            wanted: (A, 4) of each image, the deltas that would be right.
            anchors_in_level: how many of the A anchors belong to each level.
        """
        positive, negative = (torch.stack(masks).bool() for masks in self.fg_bg_sampler(labels))
        sampled = (positive | negative).flatten()
        label = torch.cat(labels)
        objectness = F.binary_cross_entropy_with_logits(scores.flatten()[sampled], label[sampled])
        objectness = mean_of_batch(objectness, sampled.sum())
        images = len(labels)
        levels = zip(
            positive.split(anchors_in_level, dim=1),
            deltas.view(images, -1, 4).split(anchors_in_level, dim=1),
            torch.stack(wanted).split(anchors_in_level, dim=1),
            strict=True,
        )
        nothing = deltas.sum() * 0  # keeps the layer in the graph where no anchor is positive
        boxes, counts = [], []
        for chosen, given, right in levels:
            own = given[chosen]
            boxes.append(F.huber_loss(own, right[chosen], delta=self.huber_delta) if len(own) else nothing)
            counts.append(float(len(own)))
        box = mean_of_batch(torch.stack(boxes), torch.tensor(counts)).sum()
        return {"objectness": objectness, "proposal_box": self.box_weight * box}


class CentredAnchors(nn.Module):
    """Anchors around the centre of each cell, one of each ratio, as the authors' code places them.

    Source: github.com/tensorflow/tpu, models/official/detection/dataloader/anchor.py.
    """

    cell: Tensor

    def __init__(self, config: DetectorConfig, strides: tuple[int, ...]) -> None:
        super().__init__()
        ratios = torch.tensor(config.anchor_ratios)
        sides = torch.stack([ratios.rsqrt(), ratios.sqrt()], dim=1) * config.anchor_scale  # width and height, in cells
        self.register_buffer("cell", torch.cat([0.5 - sides / 2, 0.5 + sides / 2], dim=1), persistent=False)
        self.strides = strides

    def num_anchors_per_location(self) -> list[int]:
        """Of each level."""
        return [len(self.cell)] * len(self.strides)

    def forward(self, images: ImageList, maps: list[Tensor]) -> list[Tensor]:
        """(A, 4) of each image, in pixels: level after level, row after row, the anchors of a cell in turn."""
        levels = []
        for stride, (height, width) in zip(self.strides, (level.shape[-2:] for level in maps), strict=True):
            y, x = (torch.arange(side, device=self.cell.device, dtype=self.cell.dtype) for side in (height, width))
            corners = torch.cartesian_prod(y, x).flip(1).repeat(1, 2)
            levels.append((corners[:, None] + self.cell).view(-1, 4) * stride)
        return [torch.cat(levels)] * len(images.image_sizes)


class NormedRPNHead(RPNHead):
    """The proposal network's layers, shared by the levels, with a batch norm for each level behind the first one."""

    def __init__(self, channels: int, anchors: int) -> None:
        super().__init__(channels, anchors)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(5))

    def forward(self, maps: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Scores (B, anchors, h, w) and box deltas (B, 4 * anchors, h, w) of each level."""
        convolution = self.conv[0][0]
        hidden = [F.relu(norm(convolution(level))) for norm, level in zip(self.norms, maps, strict=True)]
        return [self.cls_logits(level) for level in hidden], [self.bbox_pred(level) for level in hidden]


def proposal_recall(proposals: list[Tensor], targets: list[dict[str, Tensor]]) -> Tensor:
    """The share of the objects in a batch that a proposal overlaps with an IoU of 0.5 or more; 1 without objects.

    Args:
        proposals: (P, 4) of each image, in pixels.
        targets: "boxes" (N, 4) of each image, in pixels.
    """
    overlaps = (box_iou(target["boxes"], boxes) for boxes, target in zip(proposals, targets, strict=True))
    found = torch.cat([(overlap >= 0.5).any(dim=1) for overlap in overlaps])
    return found.float().mean() if len(found) else found.new_ones((), dtype=torch.float32)
