"""A backbone of the catalogue with a feature pyramid on top: the features of every detector."""

from collections import OrderedDict
from functools import partial
from typing import Any

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from botvision.models import create_model
from botvision.tasks.detection.config import DetectorConfig


class PyramidBackbone(nn.Module):
    """Images to the maps p2 to p6 (Lin et al. 2017, FPN; paper, footnote 7).

    ``body`` gives c2 to c5, ``fpn`` turns them into maps of equal width; p6 is p5 with every second pixel. Names are
    torchvision's (``backbone.body``, ``backbone.fpn``), so that its detectors' weights load. ``strides`` are those of
    the five maps against the image.

    Shape:
        images (B, 3, H, W) -> {"p2": (B, fpn_channels, H/4, W/4), ..., "p5": stride 32, "pool": stride 64}.
    """

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        names = ("depths", "width", "spatial", "input_size")
        overrides: dict[str, Any] = {name: getattr(config, name) for name in names}
        given = {name: value for name, value in overrides.items() if value is not None}
        self.body = create_model(config.backbone, features_only=True, **given)
        self.fpn = FeaturePyramidNetwork(
            list(self.body.config.channels),
            config.fpn_channels,
            extra_blocks=LastLevelMaxPool(),
            norm_layer=batch_norm(config) if config.norm == "batch" else None,
        )
        self.out_channels = config.fpn_channels
        reductions = self.body.config.reductions
        self.strides = (*reductions, 2 * reductions[-1])

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Normalised images (B, 3, H, W) -> the pyramid, finest level first."""
        maps = self.body(images)
        return self.fpn(OrderedDict(zip(("p2", "p3", "p4", "p5"), maps, strict=True)))


def batch_norm(config: DetectorConfig) -> partial[nn.BatchNorm2d]:
    """Batch norm with the detector's momentum and epsilon."""
    return partial(nn.BatchNorm2d, eps=config.norm_epsilon, momentum=config.norm_momentum)
