"""A backbone of the catalogue with a feature pyramid on top: the features of every detector."""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool

from botvision.models import Network
from botvision.tasks.detection.config import DetectorConfig


class PyramidBackbone(nn.Module):
    """Images to the maps p2 to p6 (Lin et al. 2017, FPN; paper, footnote 7).

    ``body`` gives c2 to c5, ``fpn`` turns them into maps of equal width. Names are torchvision's (``backbone.body``,
    ``backbone.fpn``), so that its detectors' weights load. ``strides`` are those of the five maps against the image.

    Shape:
        images (B, 3, H, W) -> {"p2": (B, fpn_channels, H/4, W/4), ..., "p5": stride 32, "p6": stride 64}; torchvision's
        variant calls the last one "pool".
    """

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.body = Network(config.network(), features_only=True)
        self.fpn = FeaturePyramidNetwork(
            list(self.body.config.channels),
            config.fpn_channels,
            extra_blocks=AuthorsLevels(config.fpn_channels) if config.variant == "authors" else LastLevelMaxPool(),
        )
        if config.variant == "authors":
            for layer in self.fpn.modules():
                if isinstance(layer, nn.Conv2d):
                    nn.init.xavier_uniform_(layer.weight)  # torchvision starts the biases at 0, as the authors do
        self.out_channels = config.fpn_channels
        reductions = self.body.config.reductions
        self.strides = (*reductions, 2 * reductions[-1])

    def norm_pairs(self) -> list[tuple[str, str]]:
        """Layers and the norms that alone use their output; see :func:`~botvision.models.folding.fold`.

        Not p5: p6 is made of it too, without the norm.
        """
        if not isinstance(self.fpn.extra_blocks, AuthorsLevels):
            return []
        layers = ["fpn.layer_blocks.0.0", "fpn.layer_blocks.1.0", "fpn.layer_blocks.2.0", "fpn.extra_blocks.p6"]
        return [(layer, f"fpn.extra_blocks.norms.{level}") for layer, level in zip(layers, (0, 1, 2, 4), strict=True)]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Normalised images (B, 3, H, W) -> the pyramid, finest level first; attention takes in the padding (paper)."""
        maps = self.body(images)
        return self.fpn(OrderedDict(zip(("p2", "p3", "p4", "p5"), maps, strict=True)))


class AuthorsLevels(ExtraFPNBlock):
    """The end of the authors' FPN: p6, a strided convolution of p5, and then a batch norm on each of the five levels.

    Source: github.com/tensorflow/tpu, models/official/detection/modeling/architecture/fpn.py.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.p6 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(5))

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        """Maps p2 to p5 and their names -> p2 to p6, and theirs; the maps of the backbone, ``x``, are not used."""
        levels = [*results, self.p6(results[-1])]
        maps = [norm(level) for norm, level in zip(self.norms, levels, strict=True)]
        for level in maps:
            # RoIAlign's gradient has another layout, which makes batch norm's backward pass several times as slow.
            if level.requires_grad and not torch.compiler.is_compiling():
                level.register_hook(in_channels_last)
        return maps, [*names, "p6"]


def in_channels_last(x: Tensor) -> Tensor:
    """(B, C, H, W), the same numbers with the channels of a pixel side by side in memory."""
    return x.contiguous(memory_format=torch.channels_last)
