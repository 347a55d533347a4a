"""A detector as data, its defaults the settings of the authors' public TPU detection code.

That code is github.com/tensorflow/tpu, models/official/detection.
"""

from dataclasses import dataclass
from typing import Literal

from botvision.errors import UserError
from botvision.limits import ABOVE_0, AT_LEAST_0, AT_LEAST_1, SHARE, check_limits

LIMITS = {
    "depths": AT_LEAST_1,
    "width": AT_LEAST_1,
    "input_size": AT_LEAST_1,
    "norm_momentum": SHARE,
    "norm_epsilon": ABOVE_0,
    "fpn_channels": AT_LEAST_1,
    "anchor_scale": ABOVE_0,
    "anchor_ratios": ABOVE_0,
    "rpn_foreground_iou": SHARE,
    "rpn_background_iou": SHARE,
    "rpn_samples": AT_LEAST_1,
    "rpn_huber_delta": ABOVE_0,
    "rpn_box_weight": AT_LEAST_0,
    "rpn_nms": SHARE,
    "proposals_before_nms": AT_LEAST_1,
    "proposals": AT_LEAST_1,
    "roi_samples": AT_LEAST_1,
    "roi_foreground": SHARE,
    "roi_iou": SHARE,
    "roi_huber_delta": ABOVE_0,
    "box_head_width": AT_LEAST_1,
    "mask_head_width": AT_LEAST_1,
    "mask_head_depth": AT_LEAST_0,
    "score_threshold": SHARE,
    "detection_nms": SHARE,
    "detections": AT_LEAST_1,
}


@dataclass(frozen=True)
class DetectorConfig:
    """Mask R-CNN with FPN on a backbone of the catalogue (paper, Section 4)."""

    backbone: str = "botnet50"
    """Name of a model in `botvision models`."""
    depths: tuple[int, int, int, int] | None = None
    """Blocks in c2 to c5, instead of the named model's own."""
    width: int | None = None
    """Channels of the stem, instead of the named model's own; every stage follows."""
    freeze_stem: bool = False
    """Keep the stem and c2 as they were loaded, their batch norm included."""
    input_size: int = 1024
    """Height and width, in pixels, that images are scaled, cropped and padded to."""

    norm: Literal["batch", "none"] = "batch"
    """Normalisation in the FPN and the mask head: batch norm, or none as in torchvision's first Mask R-CNN."""
    norm_momentum: float = 0.003
    """Share of a step's statistics in the running ones, in every batch norm; short runs need more, such as 0.1."""
    norm_epsilon: float = 1e-4
    """Added to the variance in every batch norm."""
    fpn_channels: int = 256
    """Channels of p2 to p6."""

    anchor_scale: float = 8.0
    """Side of a square anchor, in strides of its level."""
    anchor_ratios: tuple[float, ...] = (1.0, 2.0, 0.5)
    """Height over width of the anchors."""
    rpn_foreground_iou: float = 0.7
    """An anchor that overlaps an object at least this much is a positive example."""
    rpn_background_iou: float = 0.3
    """An anchor that overlaps every object less than this is a negative example."""
    rpn_samples: int = 256
    """Anchors an image in the RPN's loss, at most half of them positive."""
    rpn_huber_delta: float = 1 / 9
    """Where the RPN's box loss turns from square to linear, in box-coder units."""
    rpn_box_weight: float = 1.0
    """Weight of the RPN's box loss, which is small beside the others: short runs learn boxes sooner with 10."""
    rpn_nms: float = 0.7
    """Overlap above which the weaker of two proposals is dropped."""
    proposals_before_nms: tuple[int, int] = (2000, 1000)
    """Best proposals of each level that enter NMS, in training and in test."""
    proposals: tuple[int, int] = (1000, 1000)
    """Proposals an image that leave NMS, in training and in test."""

    roi_samples: int = 512
    """Regions an image in the box loss."""
    roi_foreground: float = 0.25
    """Largest share of objects among them."""
    roi_iou: float = 0.5
    """A region that overlaps an object at least this much is that object, below it background."""
    roi_huber_delta: float = 1.0
    """Where the box head's loss turns from square to linear, in box-coder units."""
    box_head_width: int = 1024
    """Width of the two fully connected layers of the box head."""
    mask_head_width: int = 256
    """Channels of the mask head's convolutions."""
    mask_head_depth: int = 4
    """3x3 convolutions of the mask head, before the one that doubles 14 x 14 to 28 x 28."""

    score_threshold: float = 0.0
    """Detections that score no more than this are dropped in test."""
    detection_nms: float = 0.5
    """Overlap above which the weaker of two detections of a class is dropped."""
    detections: int = 100
    """Most detections an image."""

    def __post_init__(self) -> None:
        """Refuse numbers that no detector can be built or trained with."""
        check_limits(self, LIMITS)
        if not self.anchor_ratios:
            raise UserError("--anchor-ratios must be at least one number, got none")
        if self.rpn_foreground_iou < self.rpn_background_iou:
            raise UserError(
                f"--rpn-foreground-iou must be at least --rpn-background-iou, "
                f"got {self.rpn_foreground_iou} and {self.rpn_background_iou}"
            )
