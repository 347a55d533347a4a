"""Models that take pixels, and parts of them that stay as they were loaded."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Self

import torch
from torch import Tensor, nn

from botvision.models import LoadReport, Network
from botvision.tasks.pixel_config import PixelConfig

STAGES = {"stem": ("conv1", "bn1"), "c2": ("layer1",), "c3": ("layer2",), "c4": ("layer3",), "c5": ("layer4",)}
"""Parts of a network by the stages of the paper's Table 1, from the image on."""


class PixelModel(nn.Module, ABC):
    """A model that takes pixels as they are read and normalises them itself; parts of its network may be frozen.

    Args:
        config: which pixels.

    Attributes:
        pixel_mean, pixel_std: of the images, (C, 1, 1).
        frozen_stage: the last stage of the trunk that is not trained, or "none".
    """

    config: PixelConfig
    pixel_mean: Tensor
    pixel_std: Tensor
    frozen_stage = "none"

    @property
    @abstractmethod
    def trunk(self) -> Network:
        """The network of the catalogue inside."""

    def __init__(self, config: PixelConfig) -> None:
        super().__init__()
        self.register_buffer("pixel_mean", torch.tensor(config.mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(config.std).view(-1, 1, 1), persistent=False)

    def freeze(self, stage: str) -> None:
        """Exclude the trunk up to a stage from training."""
        self.frozen_stage = stage
        for part in parts_up_to(stage):
            getattr(self.trunk, part).requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Switch to training or test; frozen parts stay in test, so that the statistics of their batch norms stay."""
        super().train(mode)
        for part in parts_up_to(self.frozen_stage):
            getattr(self.trunk, part).eval()
        return self

    def normalised(self, images: Tensor) -> Tensor:
        """Pixels (B, C, H, W), RGB from 0 to 255 or as stored, as the network takes them, in float32."""
        return (images.to(self.pixel_mean) - self.pixel_mean) / self.pixel_std


def parts_up_to(stage: str) -> tuple[str, ...]:
    """Names of the parts of a network up to a stage, this one included; of "none" there are none."""
    names = list(STAGES)
    frozen = names[: names.index(stage) + 1] if stage != "none" else []
    return tuple(part for name in frozen for part in STAGES[name])


def first_random(report: LoadReport, parts: Iterable[str]) -> str | None:
    """The first tensor of some parts of a network that was not loaded; the counters of batch norms do not matter."""
    starts = tuple(f"{part}." for part in parts)
    names = (name for name in report.at_random if not name.endswith("num_batches_tracked"))
    return next((name for name in names if name.startswith(starts)), None)
