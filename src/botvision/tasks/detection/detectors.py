"""The list of detectors."""

from botvision.tasks.detection.config import DetectorConfig
from botvision.tasks.detection.mask_rcnn import MaskRCNN
from botvision.tasks.detection.rcnn import RCNN, FasterRCNN

DETECTORS: dict[str, type[RCNN]] = {"mask_rcnn": MaskRCNN, "faster_rcnn": FasterRCNN}
"""Detectors by the name in their configuration; each is made from it and a number of classes."""


def make_detector(config: DetectorConfig, num_classes: int) -> RCNN:
    """The detector that a configuration names, with random weights."""
    return DETECTORS[config.detector](config, num_classes)
