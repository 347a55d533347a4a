"""What a detector is: it gives losses for images and targets, and detections for images."""

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from botvision.tasks.detection.config import CommonConfig
from botvision.tasks.pixels import PixelModel


class Detector(PixelModel):
    """The interface of a detector.

    Args:
        config: the detector as data.
        num_classes: K, classes of objects, background not counted.

    Attributes:
        backbone: images to maps, in sizes that do not depend on what is in them; its network is ``backbone.body``.
    """

    predicts: ClassVar[tuple[str, ...]] = ("box",)
    """What COCO's metric can score; the last one decides which checkpoint is the best."""
    loss_names: ClassVar[tuple[str, ...]]
    """The losses of a training step, which are added up."""
    measures: ClassVar[tuple[str, ...]] = ()
    """What else a training step reports."""
    backbone: nn.Module

    def __init__(self, config: CommonConfig, num_classes: int) -> None:
        super().__init__(config)
        self.config: CommonConfig = config
        self.num_classes = num_classes

    @abstractmethod
    def forward(
        self,
        images: Tensor,
        content_sizes: list[tuple[int, int]] | None = None,
        targets: list[dict[str, Tensor]] | None = None,
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """In training what :attr:`loss_names` and :attr:`measures` list, in test the detections of each image.

        Args:
            images: (B, C, H, W), RGB from 0 to 255 (uint8 or float) or as stored, padding at the bottom and right.
            content_sizes: (height, width) of each image inside its padding, in pixels; the whole by default.
            targets: for each image "boxes" (N, 4) as x1, y1, x2, y2 in pixels, "labels" (N,) int64 in 1..K, and what
                the detector learns beside boxes; needed in training.

        Returns:
            In test for each image "boxes" (D, 4) in pixels of the input, "labels" (D,), "scores" (D,), best first, and
            what the detector predicts beside boxes.

        Raises:
            ValueError: training without targets.
        """

    def optimizer(self, config: Any) -> torch.optim.Optimizer | None:  # noqa: ANN401 (of the detector's own type)
        """The detector's own optimiser, with the settings of the experiment; None for SGD (the default)."""
        return None

    def finish(self) -> None:
        """What every detector does once its parts are made: settings of batch norm, frozen parts, memory format."""
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.momentum, module.eps = self.config.norm_momentum, self.config.norm_epsilon
        self.freeze("c2" if self.config.freeze_stem else "none")
        self.to(memory_format=torch.channels_last)
