"""The reference: what every backend must compute, written with the whole matrix of logits.

:func:`figure_4_attention` is the paper's Figure 4, one line for each box. :func:`reference_attention` is the primitive
with given biases; as a backend it serves maps so small that their matrix fits the cache.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def figure_4_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rel_height: Tensor,
    rel_width: Tensor,
    size: Sequence[int],
    scale: float,
    key_size: Sequence[int] | None = None,
) -> Tensor:
    """softmax(q k^T + q r^T) v over all positions of a map (paper, Section 3 and Figure 4).

    Args:
        q: (B, heads, H*W, d), positions in row-major order.
        k, v: ``(B, heads, H'*W', d)`` and ``(B, heads, H'*W', e)``.
        rel_height: (H + H' - 1, d), one vector for each vertical distance -(H-1) .. H'-1 from a query to a key.
        rel_width: (W + W' - 1, d), likewise for horizontal distances.
        size: (H, W), the map of the queries.
        scale: multiplies q before both terms.
        key_size: (H', W'), the map of the keys; ``size`` by default.

    Returns:
        (B, heads, H*W, e).
    """
    height, width = size
    key_width = (key_size or size)[1]
    query = torch.arange(q.shape[2], device=q.device)[:, None]
    key = torch.arange(k.shape[2], device=q.device)[None, :]
    row_distance = key // key_width - query // width + height - 1
    column_distance = key % key_width - query % width + width - 1

    q = q * scale
    content = q @ k.transpose(-2, -1)
    position = (q @ rel_height.T)[..., query, row_distance] + (q @ rel_width.T)[..., query, column_distance]
    return (content + position).softmax(dim=-1) @ v


def reference_attention(
    q: Tensor, k: Tensor, v: Tensor, bias_height: Tensor, bias_width: Tensor, scale: float, members: int = 1
) -> Tensor:
    """softmax(scale * q k^T + bias_height[i, y_j] + bias_width[i, x_j]) v: (B, heads, N, e).

    Args:
        q: (B, heads, N, d).
        k, v: ``(B, heads, H'*W', d)`` and ``(B, heads, H'*W', e)``, positions in row-major order.
        bias_height, bias_width: (B, heads, N, H') and (B, heads, N, W').
        scale: multiplies q k^T alone.
        members: how many queries make a cell, whose answers are averaged: cell c has the queries c, c + N / members,
            c + 2 N / members and so on, and the result is (B, heads, N / members, e).
    """
    bias = (bias_height[..., :, None] + bias_width[..., None, :]).flatten(-2)
    logits = (q * scale) @ k.transpose(-2, -1) + bias
    out = logits.softmax(dim=-1).to(v.dtype) @ v
    return out.unflatten(2, (members, -1)).mean(dim=2) if members > 1 else out
