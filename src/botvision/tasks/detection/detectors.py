"""The list of detectors."""

from botvision.tasks.detection.config import CommonConfig
from botvision.tasks.detection.detector import Detector
from botvision.tasks.detection.detr import Detr
from botvision.tasks.detection.keypoint_rcnn import COCO_KEYPOINTS, KeypointRCNN
from botvision.tasks.detection.mask_rcnn import MaskRCNN
from botvision.tasks.detection.rcnn import FasterRCNN

DETECTORS: dict[str, type[Detector]] = {
    "mask_rcnn": MaskRCNN,
    "faster_rcnn": FasterRCNN,
    "keypoint_rcnn": KeypointRCNN,
    "detr": Detr,
}
"""Detectors by the name in their configuration; each is made from it and a number of classes, and one that predicts
keypoints from their number too."""


def make_detector(config: CommonConfig, num_classes: int, num_keypoints: int = COCO_KEYPOINTS) -> Detector:
    """The detector that a configuration names, with random weights; ``num_keypoints`` is for one of keypoints."""
    detector = DETECTORS[config.detector]
    return detector(config, num_classes, *([num_keypoints] if "keypoint" in detector.predicts else []))
