"""Object detection, instance segmentation and keypoints on the backbones of the catalogue."""

from botvision.tasks.detection.config import DetectionExperiment, DetectorConfig, DetrConfig, DetrOptimizer
from botvision.tasks.detection.detr import Detr
from botvision.tasks.detection.keypoint_rcnn import KeypointRCNN
from botvision.tasks.detection.mask_rcnn import MaskRCNN
from botvision.tasks.detection.rcnn import FasterRCNN

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
