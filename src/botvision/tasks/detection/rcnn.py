"""The two-stage detector: a backbone, a proposal network, and heads on the proposed regions."""

from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from botvision.data.images import PIXEL_MEAN, PIXEL_STD
from botvision.tasks.detection.backbone import PyramidBackbone
from botvision.tasks.detection.config import DetectorConfig
from botvision.tasks.detection.proposals import ProposalNetwork, proposal_recall
from botvision.tasks.detection.regions import RegionHeads
from botvision.tasks.frozen import freeze, keep_in_test_mode


class RCNN(nn.Module):
    """Boxes and classes of the objects in an image, and what further heads say about each of them.

    Images come in at the size they are computed at: scaling, cropping and padding belong to the data pipeline and
    happen once. Parts are named as torchvision names them: ``backbone.body``, ``backbone.fpn``, ``rpn``, ``roi_heads``.

    Args:
        config: the detector as data.
        num_classes: K, classes of objects, background not counted.
        backbone: normalised images to the pyramid p2 to p6.
        rpn: proposes boxes.
        roi_heads: the heads on the proposed regions, see :class:`~botvision.tasks.detection.regions.RegionHeads`.
    """

    predicts: ClassVar[tuple[str, ...]] = ("box",)
    """What COCO's metric can score; the last one decides which checkpoint is the best."""
    loss_names: ClassVar[tuple[str, ...]] = ("objectness", "proposal_box", "class", "box")
    """The losses of a training step."""
    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        config: DetectorConfig,
        num_classes: int,
        backbone: PyramidBackbone,
        rpn: ProposalNetwork,
        roi_heads: RegionHeads,
    ) -> None:
        super().__init__()
        self.config = config
        self.num_classes = num_classes
        self.backbone = backbone
        self.rpn = rpn
        self.roi_heads = roi_heads
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum, module.eps = config.norm_momentum, config.norm_epsilon
        self.register_buffer("pixel_mean", torch.tensor(PIXEL_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(PIXEL_STD).view(3, 1, 1), persistent=False)
        self.frozen_stage = "c2" if config.freeze_stem else "none"
        freeze(self.backbone.body, self.frozen_stage)
        self.to(memory_format=torch.channels_last)

    def train(self, mode: bool = True) -> Self:
        """Switch to training or test; frozen parts stay in test, so that their statistics stay too."""
        super().train(mode)
        keep_in_test_mode(self.backbone.body, self.frozen_stage)
        return self

    def forward(
        self,
        images: Tensor,
        content_sizes: list[tuple[int, int]] | None = None,
        targets: list[dict[str, Tensor]] | None = None,
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Losses in training, detections in test.

        Args:
            images: (B, 3, H, W), 8-bit values (uint8, or float in 0..255), padding at the bottom and right.
            content_sizes: (height, width) of each image inside its padding, in pixels; the whole by default.
            targets: for each image "boxes" (N, 4) as x1, y1, x2, y2 in pixels, "labels" (N,) int64 in 1..K, and for a
                detector with masks "masks" (N, H, W) uint8; needed in training.

        Returns:
            In training the losses that :attr:`loss_names` lists, and "proposal_recall", the share of the objects that
            a proposal overlaps by half. In test for each image "boxes" (D, 4) in pixels of the input, "labels" (D,),
            "scores" (D,), best first, and of a detector with masks "masks" (D, 1, 28, 28), probabilities inside the
            box.

        Raises:
            ValueError: training without targets.
        """
        if self.training and targets is None:
            raise ValueError("targets are needed in training")
        sizes = content_sizes or [(images.shape[-2], images.shape[-1])] * len(images)
        pixels = (images.to(self.pixel_mean) - self.pixel_mean) / self.pixel_std
        features = self.backbone(pixels)
        proposals, losses = self.rpn(ImageList(pixels, sizes), features, targets)
        detections, head_losses = self.roi_heads(features, proposals, sizes, targets)
        if not self.training:
            return detections
        return {**losses, **head_losses, "proposal_recall": proposal_recall(proposals, targets or [])}
