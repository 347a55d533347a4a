"""MHSA2d: the multi-head self-attention layer of the paper's Figure 4."""

import torch
from torch import Tensor, nn

from botvision.attention import relative_attention


class MHSA2d(nn.Module):
    """Global self-attention over the positions of a feature map, with split relative position encodings (Figure 4).

    q, k and v are 1x1 projections without bias, kept in one convolution; there is no output projection. Any height
    and width can go in: ``size`` only says for which map the tables are made.

    Args:
        channels: C, of the input and the output.
        size: (H, W) of the map that the relative tables are made for.
        heads: number of heads, each C / heads wide (paper: 4).

    Raises:
        ValueError: ``heads`` does not divide ``channels``.

    Shape:
        input (B, C, H, W), output (B, C, H, W) in channels-last memory.
    """

    def __init__(self, channels: int, size: tuple[int, int], heads: int = 4) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"heads must divide the channels: {heads} heads, {channels} channels")
        self.heads = heads
        self.head_width = channels // heads
        self.qkv = nn.Conv2d(channels, 3 * channels, kernel_size=1, bias=False)
        self.rel_height = nn.Parameter(torch.empty(2 * size[0] - 1, self.head_width))
        self.rel_width = nn.Parameter(torch.empty(2 * size[1] - 1, self.head_width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw projections from N(0, 1/C) and tables from N(0, 1/d), as DESIGN's definitions say."""
        nn.init.normal_(self.qkv.weight, std=self.qkv.in_channels**-0.5)
        for table in (self.rel_height, self.rel_width):
            nn.init.normal_(table, std=self.head_width**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Attend from every position to every position: (B, C, H, W) -> (B, C, H, W)."""
        batch, channels, height, width = x.shape
        # In channels-last memory these are views, and the last axis of each head is contiguous, which the stock
        # attention kernels need to take their fast path.
        pixels = self.qkv(x).permute(0, 2, 3, 1)
        q, k, v = pixels.reshape(batch, height * width, 3, self.heads, self.head_width).permute(2, 0, 3, 1, 4)
        rel_height, rel_width = self.rel_height.to(q.dtype), self.rel_width.to(q.dtype)
        out = relative_attention(q, k, v, rel_height, rel_width, size=(height, width))
        return out.transpose(1, 2).reshape(batch, height, width, channels).permute(0, 3, 1, 2)

    def extra_repr(self) -> str:
        """Show what the convolution inside does not."""
        made_for = tuple((table.shape[0] + 1) // 2 for table in (self.rel_height, self.rel_width))
        return f"heads={self.heads}, tables for {made_for[0]}x{made_for[1]}"
