"""Faster R-CNN, the detector of boxes alone, on any backbone of the catalogue (Ren et al. 2015)."""

from botvision.tasks.detection.backbone import PyramidBackbone
from botvision.tasks.detection.config import DetectorConfig
from botvision.tasks.detection.proposals import ProposalNetwork
from botvision.tasks.detection.rcnn import RCNN
from botvision.tasks.detection.regions import RegionHeads, box_heads


class FasterRCNN(RCNN):
    """Boxes and classes of the objects in an image; it learns from data without masks.

    Shapes are as in :class:`~botvision.tasks.detection.rcnn.RCNN`.

    Args:
        config: the detector as data; what it says of a mask head is not used.
        num_classes: K, classes of objects, background not counted.
    """

    def __init__(self, config: DetectorConfig, num_classes: int) -> None:
        backbone = PyramidBackbone(config)
        rpn = ProposalNetwork(config, backbone.strides)
        super().__init__(config, num_classes, backbone, rpn, RegionHeads(config, **box_heads(config, num_classes)))
