"""Mask R-CNN on any backbone of the catalogue (He et al. 2017; paper, Section 4)."""

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from botvision.data.images import PIXEL_MEAN, PIXEL_STD
from botvision.detection.backbone import PyramidBackbone
from botvision.detection.config import DetectorConfig
from botvision.detection.proposals import ProposalNetwork
from botvision.detection.regions import RegionHeads


class MaskRCNN(nn.Module):
    """Boxes, classes and masks of the objects in an image.

    Images come in at the size they are computed at: scaling, cropping and padding belong to the data pipeline and
    happen once. Parts are named as torchvision names them: ``backbone.body``, ``backbone.fpn``, ``rpn``, ``roi_heads``.

    Args:
        config: the detector as data.
        num_classes: K, kinds of objects, background not counted.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: DetectorConfig, num_classes: int) -> None:
        super().__init__()
        self.config = config
        self.num_classes = num_classes
        self.backbone = PyramidBackbone(config)
        self.rpn = ProposalNetwork(config, config.fpn_channels, self.backbone.strides)
        self.roi_heads = RegionHeads(config, config.fpn_channels, num_classes + 1)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum, module.eps = config.norm_momentum, config.norm_epsilon
        self.register_buffer("pixel_mean", torch.tensor(PIXEL_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(PIXEL_STD).view(3, 1, 1), persistent=False)
        if config.freeze_stem:
            for part in self.frozen_parts():
                part.requires_grad_(False)
        self.to(memory_format=torch.channels_last)

    def frozen_parts(self) -> tuple[nn.Module, ...]:
        """Stem and c2, which ``freeze_stem`` leaves as they were loaded."""
        body = self.backbone.body
        return body.conv1, body.bn1, body.layer1

    def train(self, mode: bool = True) -> "MaskRCNN":
        """Switch to training or test; frozen parts stay in test, so that their statistics stay too."""
        super().train(mode)
        if self.config.freeze_stem:
            for part in self.frozen_parts():
                part.eval()
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
            targets: for each image "boxes" (N, 4) as x1, y1, x2, y2 in pixels, "labels" (N,) int64 in 1..K,
                "masks" (N, H, W) uint8; needed in training.

        Returns:
            In training the losses "objectness", "proposal_box", "class", "box", "mask". In test for each image
            "boxes" (D, 4) in pixels of the input, "labels" (D,), "scores" (D,), best first, and "masks"
            (D, 1, 28, 28), probabilities inside the box.

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
        return {**losses, **head_losses} if self.training else detections
