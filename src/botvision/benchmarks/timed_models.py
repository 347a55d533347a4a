"""The models whose step is timed: the catalogue's, and from timm those that the paper's Figure 5 draws beside them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from importlib.util import find_spec

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import resnet50

from botvision.configuration import FieldError
from botvision.errors import nearest
from botvision.models import CATALOGUE, create_model
from botvision.models.counting import count_multiply_adds

LEAST_SIZE = 64
"""Pixels; at 32, batch norm of one image has one value a channel, which it cannot normalise in training."""
PEER = "resnet50_timm_attn"
"""BoTNet-50 made of other people's parts: torchvision's ResNet-50 with timm's attention in c5."""
PEER_AS_IT_COMES = f"{PEER}_nchw"
"""The same in PyTorch's default memory format; all other models are timed in channels-last memory."""


@dataclass(frozen=True)
class TimedModel:
    """A model by its name."""

    size: int
    """Image height and width that it is made for, in pixels."""
    build: Callable[[int], nn.Module]
    """From the image's height and width, with 1000 classes."""
    package: str = "torch"
    """The distribution that it needs beside ours."""
    divisor: int = 1
    """Of its image sizes."""
    memory_format: torch.memory_format = torch.channels_last
    """Of its weights and images."""

    def is_installed(self) -> bool:
        """Whether its package is there, without importing it."""
        return find_spec(self.package) is not None

    def on_meta(self, size: int) -> nn.Module:
        """The model without memory, for counting."""
        with torch.device("meta"):
            return self.build(size).to(memory_format=self.memory_format)


def ours(name: str, size: int) -> nn.Module:
    """A model of the catalogue."""
    return create_model(name, input_size=size)


def from_timm(name: str, size: int) -> nn.Module:
    """A model of timm that takes images of any size."""
    import timm

    return timm.create_model(name)


def transformer(name: str, size: int) -> nn.Module:
    """A model of timm that is built for one image size."""
    import timm

    return timm.create_model(name, img_size=size)


def timm_attention(size: int) -> nn.Module:
    """torchvision's ResNet-50 with timm's ``BottleneckAttn`` in the place of the 3x3 convolutions of c5."""
    from timm.layers.bottleneck_attn import BottleneckAttn

    model, side = resnet50(), size // 16
    for block in model.layer4:
        stride = block.stride
        block.conv2 = BottleneckAttn(512, feat_size=(side, side), stride=stride, num_heads=4)
        side //= stride
    return model


EFFICIENTNETS = (224, 240, 260, 300, 380, 456, 528, 600)
"""Image sizes of B0 to B7 (Tan and Le 2019)."""
TRANSFORMERS = {
    "deit_tiny_patch16_224": 224,
    "deit_small_patch16_224": 224,
    "deit_base_patch16_224": 224,
    "deit_base_patch16_384": 384,
    "vit_base_patch16_384": 384,
    "vit_large_patch16_384": 384,
}
MODELS: dict[str, TimedModel] = {
    **{name: TimedModel(entry.config.image_size[0], partial(ours, name)) for name, entry in CATALOGUE.items()},
    **{
        f"efficientnet_b{number}": TimedModel(size, partial(from_timm, f"efficientnet_b{number}"), "timm")
        for number, size in enumerate(EFFICIENTNETS)
    },
    **{name: TimedModel(size, partial(transformer, name), "timm", 16) for name, size in TRANSFORMERS.items()},
    PEER: TimedModel(224, timm_attention, "timm", 32),
    PEER_AS_IT_COMES: TimedModel(224, timm_attention, "timm", 32, torch.contiguous_format),
}
"""By the names that the command line takes; timm's are its own."""


def named(patterns: Sequence[str]) -> list[str]:
    """The models of names, or of patterns such as ``botnet_t*``, each once.

    Raises:
        FieldError: of models; no model has such a name.
    """
    found = []
    for pattern in patterns:
        matches = [name for name in MODELS if fnmatchcase(name, pattern)]
        if not matches:
            raise FieldError(("models",), f"{pattern!r} is unknown{nearest(pattern, list(MODELS))}")
        found += matches
    return list(dict.fromkeys(found))


def size_of(name: str, size: int | None, field: str = "size") -> int:
    """The size to time a model at: its own where none is given.

    Raises:
        FieldError: of the field; the model does not take such a size.
    """
    model = MODELS[name]
    if size is None:
        return model.size
    if size < LEAST_SIZE or size % model.divisor:
        multiple = f" and a multiple of {model.divisor}" if model.divisor > 1 else ""
        raise FieldError((field,), f"{name} needs at least {LEAST_SIZE} pixels{multiple}, got {size}")
    return size


def multiply_adds(name: str, size: int) -> int:
    """Multiply-adds of one image: ours counted as the paper counts them, others by PyTorch's own counter."""
    model = MODELS[name].on_meta(size)
    if name in CATALOGUE:
        return count_multiply_adds(model, size, size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, 3, size, size, device="meta"))
    return counter.get_total_flops() // 2
