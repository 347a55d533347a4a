"""DETR's transformer: an encoder on the positions of a map, and a decoder of queries to objects.

Source: Carion et al. 2020, "End-to-End Object Detection with Transformers" (arXiv 2005.12872), Figure 10.

The layers are PyTorch's ``TransformerEncoderLayer`` and ``TransformerDecoderLayer``, with the same names of parts. New
are the positions, which each layer adds to queries and keys, and the mask of the padding as biases of rows and columns.
Dropout leaves the probabilities of attention alone: our operator never has their matrix.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from botvision.attention import biased_attention, content_attention, padding_biases
from botvision.tasks.detection.config import DetrConfig

Biases = tuple[Tensor, Tensor]
"""Of the rows and of the columns of a map of keys."""


class Transformer(nn.Module):
    """From a map to one vector for each query, after each layer of the decoder.

    Shape:
        map (B, hidden, H, W), and valid_size (B, 2), its rows and columns that are no padding
        -> (layers, B, queries, hidden).
    """

    def __init__(self, config: DetrConfig) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.norm = nn.LayerNorm(config.hidden)
        self.queries = nn.Embedding(config.queries, config.hidden)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)

    def forward(self, features: Tensor, valid_size: Tensor) -> Tensor:
        """See the shapes of the class."""
        size = features.shape[2:]
        positions = sine_positions(valid_size, size, features.shape[1])
        dtype = torch.promote_types(features.dtype, torch.float32)
        memory = features.flatten(2).mT
        biases = padding_biases(valid_size, size, queries=memory.shape[1], dtype=dtype)
        for layer in self.encoder:
            memory = layer(memory, positions, biases)
        queries = self.queries.weight.expand(memory.shape[0], -1, -1)
        biases = padding_biases(valid_size, size, queries=queries.shape[1], dtype=dtype)
        x, outputs = torch.zeros_like(queries), []
        for layer in self.decoder:
            x = layer(x, queries, memory, positions, biases)
            outputs.append(self.norm(x))
        return torch.stack(outputs)


class EncoderLayer(nn.Module):
    """The positions of a map attend to each other, then each goes through two linear layers."""

    def __init__(self, config: DetrConfig) -> None:
        super().__init__()
        self.self_attn = MultiHeadAttention(config.hidden, config.heads)
        self.linear1 = nn.Linear(config.hidden, config.feed_forward)
        self.linear2 = nn.Linear(config.feed_forward, config.hidden)
        self.norm1, self.norm2 = nn.LayerNorm(config.hidden), nn.LayerNorm(config.hidden)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, positions: Tensor, biases: Biases) -> Tensor:
        """``x`` and ``positions`` (B, H*W, hidden) -> (B, H*W, hidden)."""
        placed = x + positions
        x = self.norm1(x + self.dropout(self.self_attn(placed, placed, x, biases)))
        hidden = self.dropout(self.linear1(x).relu())
        return self.norm2(x + self.dropout(self.linear2(hidden)))


class DecoderLayer(nn.Module):
    """Queries attend to each other, then to the map, then each goes through two linear layers."""

    def __init__(self, config: DetrConfig) -> None:
        super().__init__()
        self.self_attn = MultiHeadAttention(config.hidden, config.heads)
        self.multihead_attn = MultiHeadAttention(config.hidden, config.heads)
        self.linear1 = nn.Linear(config.hidden, config.feed_forward)
        self.linear2 = nn.Linear(config.feed_forward, config.hidden)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(config.hidden) for _ in range(3))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, queries: Tensor, memory: Tensor, positions: Tensor, biases: Biases) -> Tensor:
        """One layer.

        Args:
            x: (B, queries, hidden), what is known of the objects.
            queries: (B, queries, hidden), the places of the queries.
            memory: (B, H*W, hidden), what the encoder gives.
            positions: (B, H*W, hidden).
            biases: of the map's rows and columns.
        """
        placed = x + queries
        x = self.norm1(x + self.dropout(self.self_attn(placed, placed, x)))
        found = self.multihead_attn(x + queries, memory + positions, memory, biases)
        x = self.norm2(x + self.dropout(found))
        hidden = self.dropout(self.linear1(x).relu())
        return self.norm3(x + self.dropout(self.linear2(hidden)))


class MultiHeadAttention(nn.Module):
    """``torch.nn.MultiheadAttention`` on our operator: ``in_proj`` has the projections of queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)
        for layer in (self.in_proj, self.out_proj):
            nn.init.zeros_(layer.bias)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, biases: Biases | None = None) -> Tensor:
        """q (B, N, width), k and v (B, M, width) -> (B, N, width); with biases the keys are those of a map."""
        projections = zip((q, k, v), self.in_proj.weight.chunk(3), self.in_proj.bias.chunk(3), strict=True)
        q, k, v = (
            F.linear(x, weight, bias).unflatten(-1, (self.heads, -1)).transpose(1, 2) for x, weight, bias in projections
        )
        out = content_attention(q, k, v) if biases is None else biased_attention(q, k, v, *biases)
        return self.out_proj(out.transpose(1, 2).flatten(2))


def sine_positions(valid_size: Tensor, size: Sequence[int], width: int) -> Tensor:
    """Sines and cosines of a position's place in the image, from 0 to 2 pi, in falling frequencies (authors' code).

    Args:
        valid_size: (B, 2), rows and columns of each image's map that are no padding.
        size: (H, W) of the map.
        width: channels, half of them for the row and half for the column; divisible by 4.

    Returns:
        (B, H*W, width), float32.
    """
    count = width // 4
    frequencies = 2 * math.pi * 10_000 ** -(torch.arange(count, device=valid_size.device) / count)
    axes = []
    for length, valid in zip(size, valid_size.unbind(dim=1), strict=True):
        place = torch.arange(1, length + 1, device=valid_size.device) / valid[:, None]
        angles = place[..., None] * frequencies
        axes.append(torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(2))
    rows = axes[0][:, :, None].expand(-1, -1, size[1], -1)
    columns = axes[1][:, None].expand(-1, size[0], -1, -1)
    return torch.cat([rows, columns], dim=-1).flatten(1, 2)
