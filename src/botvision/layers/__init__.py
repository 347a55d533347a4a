"""The layers that networks are made of: the attention layer of Figure 4 and the two blocks of Figure 1."""

from botvision.layers.blocks import EXPANSION, BoTBlock, Bottleneck
from botvision.layers.mhsa import MHSA2d

__all__ = ["EXPANSION", "BoTBlock", "Bottleneck", "MHSA2d"]
