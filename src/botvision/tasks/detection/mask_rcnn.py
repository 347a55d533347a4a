"""Mask R-CNN on any backbone of the catalogue (He et al. 2017; paper, Section 4)."""

from typing import ClassVar

from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from botvision.tasks.detection.backbone import PyramidBackbone, batch_norm
from botvision.tasks.detection.config import DetectorConfig
from botvision.tasks.detection.proposals import ProposalNetwork
from botvision.tasks.detection.rcnn import RCNN
from botvision.tasks.detection.regions import RegionHeads, box_heads


class MaskRCNN(RCNN):
    """Boxes, classes and masks of the objects in an image; shapes as in :class:`~botvision.tasks.detection.rcnn.RCNN`.

    Args:
        config: the detector as data.
        num_classes: K, classes of objects, background not counted.
    """

    predicts: ClassVar[tuple[str, ...]] = (*RCNN.predicts, "mask")
    loss_names: ClassVar[tuple[str, ...]] = (*RCNN.loss_names, "mask")

    def __init__(self, config: DetectorConfig, num_classes: int) -> None:
        backbone = PyramidBackbone(config)
        rpn = ProposalNetwork(config, backbone.strides)
        norm = batch_norm(config) if config.norm == "batch" else None
        width = config.mask_head_width
        layers = (width,) * config.mask_head_depth
        heads = RegionHeads(
            config,
            **box_heads(config, num_classes),
            mask_head=MaskRCNNHeads(config.fpn_channels, layers, dilation=1, norm_layer=norm),
            mask_predictor=MaskRCNNPredictor(width, width, num_classes + 1),
        )
        super().__init__(config, num_classes, backbone, rpn, heads)
