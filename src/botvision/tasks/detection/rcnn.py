"""The two-stage detector: a backbone, a proposal network, and heads on the proposed regions."""

from typing import ClassVar

from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from botvision.models import Network
from botvision.tasks.detection.backbone import PyramidBackbone
from botvision.tasks.detection.config import DetectorConfig
from botvision.tasks.detection.detector import Detector
from botvision.tasks.detection.proposals import ProposalNetwork, proposal_recall
from botvision.tasks.detection.regions import RegionHeads, box_heads


class RCNN(Detector):
    """Boxes and classes of the objects in an image, and what further heads say about each of them.

    Images come in at the size they are computed at: scaling, cropping and padding belong to the data pipeline and
    happen once. Parts are named as torchvision names them: ``backbone.body``, ``backbone.fpn``, ``rpn``, ``roi_heads``.

    Args:
        config: the detector as data.
        num_classes: K, classes of objects, background not counted.
    """

    loss_names: ClassVar[tuple[str, ...]] = ("objectness", "proposal_box", "class", "box")
    measures: ClassVar[tuple[str, ...]] = ("proposal_recall",)
    backbone: PyramidBackbone

    def __init__(self, config: DetectorConfig, num_classes: int) -> None:
        super().__init__(config, num_classes)
        self.backbone = PyramidBackbone(config)
        self.rpn = ProposalNetwork(config, self.backbone.strides)
        self.roi_heads = RegionHeads(
            config, **box_heads(config, num_classes), **self.further_heads(config, num_classes)
        )
        self.finish()

    @property
    def trunk(self) -> Network:
        """The backbone without its pyramid."""
        return self.backbone.body

    def further_heads(self, config: DetectorConfig, num_classes: int) -> dict[str, nn.Module]:
        """The heads beside those for boxes and classes, as arguments of ``RegionHeads``; none by default."""
        return {}

    def forward(
        self,
        images: Tensor,
        content_sizes: list[tuple[int, int]] | None = None,
        targets: list[dict[str, Tensor]] | None = None,
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Losses in training, detections in test; see ``Detector``, and ``RegionHeads`` for masks and keypoints.

        "proposal_recall" is the share of the objects that a proposal overlaps by half.
        """
        if self.training and targets is None:
            raise ValueError("targets are needed in training")
        sizes = content_sizes or [(images.shape[-2], images.shape[-1])] * len(images)
        pixels = self.normalised(images)
        features = self.backbone(pixels)
        proposals, losses = self.rpn(ImageList(pixels, sizes), features, targets)
        detections, head_losses = self.roi_heads(features, proposals, sizes, targets)
        if not self.training:
            return detections
        return {**losses, **head_losses, "proposal_recall": proposal_recall(proposals, targets or [])}


class FasterRCNN(RCNN):
    """Boxes and classes alone (Ren et al. 2015); it learns from data without masks. Masks' settings are not used."""
