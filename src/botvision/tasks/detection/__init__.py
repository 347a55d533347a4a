"""Object detection, instance segmentation and keypoints on the backbones of the catalogue."""

from typing import TYPE_CHECKING

from botvision.lazy import lazy_names
from botvision.tasks.detection.config import DetectionExperiment, DetectorConfig, DetrConfig, DetrOptimizer

if TYPE_CHECKING:
    from botvision.tasks.detection.detr import Detr
    from botvision.tasks.detection.keypoint_rcnn import KeypointRCNN
    from botvision.tasks.detection.mask_rcnn import MaskRCNN
    from botvision.tasks.detection.rcnn import FasterRCNN

__getattr__, __dir__ = lazy_names(
    __name__, {"Detr": "detr", "FasterRCNN": "rcnn", "KeypointRCNN": "keypoint_rcnn", "MaskRCNN": "mask_rcnn"}
)

__all__ = [
    "DetectionExperiment",
    "DetectorConfig",
    "Detr",
    "DetrConfig",
    "DetrOptimizer",
    "FasterRCNN",
    "KeypointRCNN",
    "MaskRCNN",
]
