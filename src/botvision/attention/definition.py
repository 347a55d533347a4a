"""The definition: attention with split 2-D relative positions, written as the paper's Figure 4 draws it.

It builds the whole (N, M) matrix of logits. Nothing else in the project is allowed to disagree with it.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from botvision.attention.tables import relative_rows


def definition_attention(
    q: Tensor,
    k: Tensor | None,
    v: Tensor,
    rel_height: Tensor | None,
    rel_width: Tensor | None,
    size: Sequence[int],
    scale: float,
    key_size: Sequence[int] | None = None,
) -> Tensor:
    """softmax(q k^T + q r^T) v over all positions of a map (paper, Section 3 and Figure 4).

    Args:
        q: (B, heads, H*W, d), positions in row-major order.
        k: (B, heads, H'*W', d), likewise; None leaves the content term out (Table 4, "qr").
        v: (B, heads, H'*W', e), likewise.
        rel_height: (H + H' - 1, d), vectors of the vertical distances -(H-1) .. H'-1 from a query to a key.
        rel_width: (W + W' - 1, d), vectors of the horizontal distances; None of both leaves the positions out ("qk").
        size: (H, W), the map of the queries.
        scale: multiplies q before both terms.
        key_size: (H', W'), the map of the keys; that of the queries by default.

    Returns:
        (B, heads, H*W, e).
    """
    q = q * scale
    logits = q.new_zeros(()) if k is None else q @ k.transpose(-2, -1)
    if rel_height is not None and rel_width is not None:
        vertical, horizontal = position_logits(q, rel_height, rel_width, size, key_size or size)
        logits = logits + (vertical[..., :, None] + horizontal[..., None, :]).flatten(-2)
    return logits.softmax(dim=-1) @ v


def position_logits(
    q: Tensor, rel_height: Tensor, rel_width: Tensor, size: Sequence[int], key_size: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """q r^T in its two terms, each of rank H' or W' for a query instead of H'*W'.

    Args:
        q: scaled queries, (B, heads, H*W, d).
        rel_height, rel_width: (H + H' - 1, d) and (W + W' - 1, d).
        size, key_size: (H, W) and (H', W').

    Returns:
        (B, heads, H*W, H'): what every key row adds to a query's logit; (B, heads, H*W, W'): every key column.
    """
    # Batch and heads go behind the map's own axes: merged in this order, no size that a compiled or exported program
    # leaves open has to be compared with another.
    grid = q.unflatten(2, size).permute(2, 3, 0, 1, 4)
    vertical = line_logits(grid, relative_rows(rel_height, size[0], key_size[0]))
    horizontal = line_logits(grid.transpose(0, 1), relative_rows(rel_width, size[1], key_size[1])).transpose(0, 1)
    return vertical.permute(2, 3, 0, 1, 4).flatten(2, 3), horizontal.permute(2, 3, 0, 1, 4).flatten(2, 3)


def line_logits(lines: Tensor, vectors: Tensor) -> Tensor:
    """Queries times the vectors of their own row or column.

    Args:
        lines: (L, K, B, heads, d), the queries of each of L rows (or columns).
        vectors: (L, L', d), as [coordinate of the query, coordinate of the key].

    Returns:
        (L, K, B, heads, L').
    """
    return (lines.contiguous().flatten(1, 3) @ vectors.transpose(1, 2)).unflatten(1, lines.shape[1:4])


def position_logits_backward(
    q: Tensor,
    rel_height: Tensor,
    rel_width: Tensor,
    grad_vertical: Tensor,
    grad_horizontal: Tensor,
    size: Sequence[int],
    key_size: Sequence[int],
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of :func:`position_logits`, for the backward passes that are written by hand.

    Args:
        q, rel_height, rel_width, size, key_size: as they went in.
        grad_vertical, grad_horizontal: (B, heads, H*W, H') and (B, heads, H*W, W'), of what came out.

    Returns:
        Of q (B, heads, H*W, d), rel_height and rel_width, in the shapes that they went in with.
    """
    grid = q.unflatten(2, size)
    rows = relative_rows(rel_height, size[0], key_size[0])
    columns = relative_rows(rel_width, size[1], key_size[1])
    vertical = grad_vertical.unflatten(2, size)
    horizontal = grad_horizontal.unflatten(2, size)
    grad_q = torch.einsum("bnyxj,yjd->bnyxd", vertical, rows) + torch.einsum("bnyxj,xjd->bnyxd", horizontal, columns)
    grad_rows = torch.einsum("bnyxj,bnyxd->yjd", vertical, grid)
    grad_columns = torch.einsum("bnyxj,bnyxd->xjd", horizontal, grid)
    return grad_q.flatten(2, 3), sum_distances(grad_rows), sum_distances(grad_columns)


def sum_distances(rows: Tensor) -> Tensor:
    """(L, L', d) for every pair of coordinates -> (L + L' - 1, d), those of one distance added up, in a fixed order.

    Behind L' rows of numbers and L rows of zeros, each query begins one place later than the one before it: read with
    one place less a query, the same distances stand in one column.
    """
    queries, keys = rows.shape[:2]
    apart = F.pad(rows.flip(0), (0, 0, 0, queries)).flatten(0, 1)  # the last query's distances begin with the first
    return apart[: queries * (queries + keys - 1)].unflatten(0, (queries, queries + keys - 1)).sum(0)
