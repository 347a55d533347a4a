"""A trained model as it is exported: a program of tensors alone, and how its answers are compared with the model's."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as F

from botvision.version import __version__

LARGEST_DIFFERENCE = 1e-4
"""Between the logits or features of a model and of its export; of the largest of them, where that is above 1."""
LONGEST_ASPECT = 4
"""Largest ratio of the sides of an image on which the two are compared."""

Tensors = dict[str, Tensor]


class Exportable(ABC):
    """What ``botvision export`` needs of a model.

    Attributes:
        program: in test mode; takes the tensors that ``axes`` names, in this order, and gives a dictionary of tensors.
        axes: of each input the dimensions that stay open in the export, with their names, such as {0: "batch"}.
        outputs: names of what the program gives.
        input_size: side of the images, in pixels, that the model was made for.
        in_channels: of images whose numbers are taken as their files have them; None for RGB with 8 bits.
        least_side: of open height and width, in pixels: the coarsest map has more than one cell, as PyTorch makes one
            cell a case of its own.
        metadata: what a program that runs the export has to know beside the shapes, as plain data for JSON.
    """

    program: nn.Module
    axes: dict[str, dict[int, str]]
    outputs: tuple[str, ...]
    least_side: int = 33

    def __init__(
        self,
        task: str,
        input_size: int,
        in_channels: int | None = None,
        **metadata: Any,  # noqa: ANN401 (plain data)
    ) -> None:
        self.input_size = input_size
        self.in_channels = in_channels
        own = {"botvision": __version__, "task": task, "input_size": input_size, "in_channels": in_channels}
        self.metadata = {**own, **metadata}

    @abstractmethod
    def inputs(self, image: Tensor) -> tuple[Tensor, ...]:
        """A photograph (C, H, W) as inputs of the program: a batch of one, which keeps its aspect ratio."""

    @abstractmethod
    def eager(self, *inputs: Tensor) -> Tensors:
        """What the trained model itself answers, with the names and shapes of the program's outputs."""

    def is_undecided(self, *inputs: Tensor) -> bool:
        """Whether rounding alone changes what the model answers, so that nothing can be said of an export."""
        return False

    def is_telling(self, wanted: Tensors) -> bool:
        """Whether an answer of the model has anything in it that an export is compared on."""
        return True

    @abstractmethod
    def difference(self, wanted: Tensors, found: Tensors) -> str | None:
        """What differs between the model's answer and that of the export; None where they agree."""


class ExportableNetwork(Exportable):
    """A model of images alone, whose answers are compared number by number: a classifier, or a backbone.

    Args:
        model: images (B, C, H, W) -> one tensor, or a list of them.
        outputs: names of these.
        task: in the metadata.
        input_size: of the shorter side of a photograph.
        mean, std: of each channel, from 0 to 255: images are (pixels - mean) / std.
        metadata: more of it.
    """

    def __init__(
        self,
        model: nn.Module,
        /,
        outputs: tuple[str, ...],
        task: str,
        input_size: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        **metadata: Any,  # noqa: ANN401 (plain data)
    ) -> None:
        super().__init__(task, input_size, mean=mean, std=std, **metadata)
        self.program = NamedOutputs(model, outputs).eval()
        self.axes = {"images": {0: "batch", 2: "height", 3: "width"}}
        self.outputs = outputs
        self.mean, self.std = (torch.tensor(values).view(-1, 1, 1) for values in (mean, std))

    def inputs(self, image: Tensor) -> tuple[Tensor, ...]:
        """The photograph with a shorter side of the input size; of a very long one the middle."""
        height, width = image.shape[1:]
        central = F.center_crop(image, [min(height, LONGEST_ASPECT * width), min(width, LONGEST_ASPECT * height)])
        return (((F.resize(central, [self.input_size], antialias=True) - self.mean) / self.std)[None],)

    def eager(self, *inputs: Tensor) -> Tensors:
        """The model itself."""
        return self.program(*inputs)

    def difference(self, wanted: Tensors, found: Tensors) -> str | None:
        """The first output that is off by more than :data:`LARGEST_DIFFERENCE`, or is not finite."""
        for name, right in wanted.items():
            largest, off = float(right.abs().max()), float((found[name] - right).abs().max())
            if not off <= LARGEST_DIFFERENCE * max(1.0, largest):
                return f"{name} differ by {off:.2g}, where the largest is {largest:.3g}"
        return None


class NamedOutputs(nn.Module):
    """A model whose one answer, or list of answers, becomes a dictionary."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, images: Tensor) -> Tensors:
        """Images (B, C, H, W) -> the model's answers by name."""
        answers = self.model(images)
        return dict(zip(self.names, [answers] if isinstance(answers, Tensor) else answers, strict=True))
