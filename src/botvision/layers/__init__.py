"""The layers that networks are made of: the block of Figure 1, the spatial layers that go into it, Non-Local."""

from botvision.layers.blocks import EXPANSION, Bottleneck, HalvingPool, NonLocalBlock, Style
from botvision.layers.mhsa import ATTENTION_KINDS, MHSA2d
from botvision.layers.spatial import SPATIAL_LAYERS, MakeNorm, Place, SpatialLayer, convolution

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
