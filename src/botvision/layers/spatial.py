"""The registry of spatial layers: what can stand between the two 1x1 convolutions of a block (Figure 1).

To add one, write its module and add an entry to :data:`SPATIAL_LAYERS`. A module with matrix products outside of
``nn.Conv2d`` and ``nn.Linear`` has a method ``multiply_adds(height, width)``, for one map of that size. A module whose
output at every position depends on the whole map has the class attribute ``relates_all_positions = True``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn

from botvision.configuration import FieldError
from botvision.errors import nearest
from botvision.layers.lambda_layer import WINDOW, LambdaLayer
from botvision.layers.mhsa import ATTENTION_KINDS, MHSA2d

MakeNorm = Callable[[int], nn.Module]
"""Channels -> a normalisation layer."""


class Place(NamedTuple):
    """Where in a network a spatial layer goes: all that it is made from."""

    width: int
    """Channels of its input and output."""
    size: tuple[int, int] | None
    """(H, W) of the input map, in positions, that position tables are made for; None where it is not known."""
    stride: int
    dilation: int
    heads: int
    norm: MakeNorm


@dataclass(frozen=True)
class SpatialLayer:
    """One entry of the registry."""

    name: str
    """Of the module in its block, and so in state dicts."""
    make: Callable[[Place], nn.Module]
    """The module, initialised: (B, width, H, W) -> (B, width, H', W')."""
    describe: Callable[[Place], str]
    """One line for ``botvision models NAME --tree``, in the notation of Table 1."""
    has_stride: bool = False
    """Whether it takes the stride itself; otherwise the block pools 2x2 behind it (paper, Section 3)."""
    has_heads: bool = True
    """Whether the number of heads must divide the width."""
    masks_padding: bool = False
    """Whether the module can be told what of a map is padding: it takes (map, valid_size) as MHSA2d does."""
    has_squeeze: bool = False
    """Whether squeeze-and-excitation goes into its block: the paper has it in convolutional blocks alone."""


def convolution(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    """A convolution without bias that keeps the map size at stride 1, with He initialisation (He et al. 2015)."""
    padding = dilation * (kernel_size // 2)
    layer = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer


SPATIAL_LAYERS: dict[str, SpatialLayer] = {
    "conv": SpatialLayer(
        name="conv2",
        make=lambda place: convolution(place.width, place.width, 3, place.stride, place.dilation),
        describe=lambda place: f"3x3, {place.width}" + (f", dilation {place.dilation}" if place.dilation > 1 else ""),
        has_stride=True,
        has_heads=False,
        has_squeeze=True,
    ),
    **{
        kind: SpatialLayer(
            name="mhsa",
            make=lambda place, kind=kind: MHSA2d(place.width, place.size, place.heads, kind),  # type: ignore[misc]
            describe=lambda place: f"MHSA, {place.width}, {place.heads} heads",
            masks_padding=True,
        )
        for kind in ATTENTION_KINDS
    },
    "lambda": SpatialLayer(
        name="lambda_layer",
        make=lambda place: LambdaLayer(place.width, place.heads, norm=place.norm),
        describe=lambda place: f"lambda, {place.width}, {place.heads} heads, {WINDOW}x{WINDOW}",
    ),
    "lambda_global": SpatialLayer(
        name="lambda_layer",
        make=lambda place: LambdaLayer(place.width, place.heads, None, place.size, place.norm),
        describe=lambda place: f"lambda, {place.width}, {place.heads} heads, global",
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
