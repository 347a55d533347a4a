"""The layers that networks are made of: the attention layer of Figure 4, the two blocks of Figure 1, Non-Local."""

from botvision.layers.blocks import (
    EXPANSION,
    BoTBlock,
    Bottleneck,
    HalvingPool,
    MakeNorm,
    NonLocalBlock,
    ResidualBlock,
    Style,
)
from botvision.layers.mhsa import ATTENTION_KINDS, MHSA2d

__all__ = [
    "ATTENTION_KINDS",
    "EXPANSION",
    "BoTBlock",
    "Bottleneck",
    "HalvingPool",
    "MHSA2d",
    "MakeNorm",
    "NonLocalBlock",
    "ResidualBlock",
    "Style",
]
