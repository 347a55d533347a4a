"""Detectors on the backbones of the catalogue."""

from botvision.detection.config import DetectorConfig
from botvision.detection.mask_rcnn import MaskRCNN

__all__ = ["DetectorConfig", "MaskRCNN"]
