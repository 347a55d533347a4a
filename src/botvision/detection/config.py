"""A detector as data: the settings of the authors' public TPU detection code, as named defaults (DESIGN.md)."""

from dataclasses import dataclass
from typing import Literal


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
