"""The registry of spatial layers: what can stand between the two 1x1 convolutions of a block (Figure 1).

To add one, write its module and add an entry to :data:`SPATIAL_LAYERS`, with its cost. A module with matrix products
outside of ``nn.Conv2d`` and ``nn.Linear`` has a method ``multiply_adds(height, width)``, for one input of that size. A
module whose output at every position depends on the whole map has the class attribute ``relates_all_positions = True``.

The registry is read with every configuration; the modules, which import PyTorch, are imported when one is made.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from botvision.configuration import FieldError
from botvision.errors import nearest
from botvision.layers.costs import (
    ATTENTION_KINDS,
    WINDOW,
    Cost,
    Size,
    attention_cost,
    convolution_cost,
    lambda_cost,
    shrink,
)

if TYPE_CHECKING:
    from torch import nn

MakeNorm = Callable[[int], "nn.Module"]
"""Channels -> a normalisation layer."""


class Place(NamedTuple):
    """Where in a network a spatial layer goes: all that it is made from."""

    width: int
    """Channels of its input and output."""
    size: Size | None
    """(H, W) of the input map, in positions, that position tables are made for; None where it is not known."""
    stride: int
    dilation: int
    heads: int
    norm: MakeNorm | None = None
    """None where the layer is described and no module is made."""


@dataclass(frozen=True)
class SpatialLayer:
    """One entry of the registry."""

    name: str
    """Of the module in its block, and so in state dicts."""
    make: Callable[[Place], "nn.Module"]
    """The module, initialised: (B, width, H, W) -> (B, width, H', W')."""
    describe: Callable[[Place], str]
    """One line for ``botvision models NAME --tree``, in the notation of Table 1."""
    cost: Callable[[Place, Size, int], Cost] | None = None
    """Of a place that has a size, on a map (H, W), with so many learned values in a channel of a norm; a layer of the
    catalogue's models needs it."""
    has_stride: bool = False
    """Whether it takes the stride itself; otherwise the block pools 2x2 behind it."""
    has_heads: bool = True
    """Whether the number of heads must divide the width."""
    masks_padding: bool = False
    """Whether the module can be told what of a map is padding: it takes (map, valid_size) as MHSA2d does."""
    has_squeeze: bool = False
    """Whether squeeze-and-excitation goes into its block: the paper has it in convolutional blocks alone."""


def make_convolution(place: Place) -> "nn.Module":
    """The 3x3 convolution of a ResNet."""
    from botvision.layers.conv import convolution

    return convolution(place.width, place.width, 3, place.stride, place.dilation)


def make_attention(place: Place, kind: str) -> "nn.Module":
    """Attention of a kind of Table 4."""
    from botvision.layers.mhsa import MHSA2d

    return MHSA2d(place.width, place.size, place.heads, kind, stride=place.stride)


def make_lambda(place: Place, window: int | None) -> "nn.Module":
    """A lambda layer with a local context, or with a global one where there is no window."""
    from botvision.layers.lambda_layer import LambdaLayer

    norm = {"norm": place.norm} if place.norm else {}
    return LambdaLayer(place.width, place.heads, window, None if window else place.size, **norm)


def attention_in(place: Place, size: Size, norm_values: int, kind: str) -> Cost:
    """The cost of attention of a kind of Table 4."""
    return attention_cost(place.width, place.width, place.heads, kind, place.size or size, size)


SPATIAL_LAYERS: dict[str, SpatialLayer] = {
    "conv": SpatialLayer(
        name="conv2",
        make=make_convolution,
        describe=lambda place: f"3x3, {place.width}" + (f", dilation {place.dilation}" if place.dilation > 1 else ""),
        cost=lambda place, size, _: convolution_cost(place.width, place.width, 3, shrink(size, place.stride)),
        has_stride=True,
        has_heads=False,
        has_squeeze=True,
    ),
    **{
        kind: SpatialLayer(
            name="mhsa",
            make=partial(make_attention, kind=kind),
            describe=lambda place: f"MHSA, {place.width}, {place.heads} heads",
            cost=partial(attention_in, kind=kind),
            has_stride=True,
            masks_padding=True,
        )
        for kind in ATTENTION_KINDS
    },
    "lambda": SpatialLayer(
        name="lambda_layer",
        make=partial(make_lambda, window=WINDOW),
        describe=lambda place: f"lambda, {place.width}, {place.heads} heads, {WINDOW}x{WINDOW}",
        cost=lambda place, size, norm_values: lambda_cost(place.width, place.heads, None, size, norm_values),
    ),
    "lambda_global": SpatialLayer(
        name="lambda_layer",
        make=partial(make_lambda, window=None),
        describe=lambda place: f"lambda, {place.width}, {place.heads} heads, global",
        cost=lambda place, size, norm_values: lambda_cost(place.width, place.heads, place.size, size, norm_values),
    ),
}
"""Every spatial layer by its name."""


def find_spatial_layer(name: str) -> SpatialLayer:
    """The entry of that name.

    Raises:
        FieldError: there is none; the nearest names are given.
    """
    if name not in SPATIAL_LAYERS:
        raise FieldError(("spatial",), f"unknown layer {name!r}{nearest(str(name), list(SPATIAL_LAYERS))}")
    return SPATIAL_LAYERS[name]
