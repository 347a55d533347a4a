"""Mask R-CNN on any backbone of the catalogue (He et al. 2017; paper, Section 4)."""

from typing import ClassVar

from torch import nn
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from botvision.tasks.detection.config import DetectorConfig
from botvision.tasks.detection.rcnn import RCNN


class MaskRCNN(RCNN):
    """Boxes, classes and masks of the objects in an image; arguments and shapes as for ``RCNN``."""

    predicts: ClassVar[tuple[str, ...]] = (*RCNN.predicts, "mask")
    loss_names: ClassVar[tuple[str, ...]] = (*RCNN.loss_names, "mask")

    def further_heads(self, config: DetectorConfig, num_classes: int) -> dict[str, nn.Module]:
        """The mask head."""
        norm = nn.BatchNorm2d if config.head_norm else None
        width = config.mask_head_width
        return {
            "mask_head": MaskRCNNHeads(
                config.fpn_channels, (width,) * config.mask_head_depth, dilation=1, norm_layer=norm
            ),
            "mask_predictor": MaskRCNNPredictor(width, width, num_classes + 1),
        }
