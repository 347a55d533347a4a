"""Keypoint R-CNN on any backbone of the catalogue (He et al. 2017, Section 5)."""

from typing import ClassVar

from torch import nn
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor

from botvision.tasks.detection.config import DetectorConfig
from botvision.tasks.detection.rcnn import RCNN

COCO_KEYPOINTS = 17


class KeypointRCNN(RCNN):
    """Boxes, classes and keypoints of the objects in an image; arguments and shapes as for ``RCNN``.

    All classes share the heat maps of the keypoints. Masks' settings are not used.

    Args:
        config: the detector as data.
        num_classes: classes of objects, background not counted.
        num_keypoints: of an object, COCO's by default.
    """

    predicts: ClassVar[tuple[str, ...]] = (*RCNN.predicts, "keypoint")
    loss_names: ClassVar[tuple[str, ...]] = (*RCNN.loss_names, "keypoint")

    def __init__(self, config: DetectorConfig, num_classes: int, num_keypoints: int = COCO_KEYPOINTS) -> None:
        self.num_keypoints = num_keypoints  # before the heads are made
        super().__init__(config, num_classes)

    def further_heads(self, config: DetectorConfig, num_classes: int) -> dict[str, nn.Module]:
        """The keypoint head."""
        width = config.keypoint_head_width
        return {
            "keypoint_head": KeypointRCNNHeads(config.fpn_channels, (width,) * config.keypoint_head_depth),
            "keypoint_predictor": KeypointRCNNPredictor(width, self.num_keypoints),
        }
