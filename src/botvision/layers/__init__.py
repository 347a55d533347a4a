"""The layers that networks are made of: the block of Figure 1, the spatial layers that go into it, Non-Local."""

from typing import TYPE_CHECKING

from botvision.layers.costs import ATTENTION_KINDS
from botvision.layers.shapes import EXPANSION
from botvision.layers.spatial import SPATIAL_LAYERS, MakeNorm, Place, SpatialLayer
from botvision.lazy import lazy_names

if TYPE_CHECKING:
    from botvision.layers.blocks import Bottleneck, HalvingPool, NonLocalBlock, Style
    from botvision.layers.conv import convolution
    from botvision.layers.mhsa import MHSA2d

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        **dict.fromkeys(("Bottleneck", "HalvingPool", "NonLocalBlock", "Style"), "blocks"),
        "MHSA2d": "mhsa",
        "convolution": "conv",
    },
)

__all__ = [
    "ATTENTION_KINDS",
    "EXPANSION",
    "SPATIAL_LAYERS",
    "Bottleneck",
    "HalvingPool",
    "MHSA2d",
    "MakeNorm",
    "NonLocalBlock",
    "Place",
    "SpatialLayer",
    "Style",
    "convolution",
]
