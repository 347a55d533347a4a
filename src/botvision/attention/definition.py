"""The definition: attention with split 2-D relative positions, written as the paper's Figure 4 draws it.

It builds the whole (N, N) matrix of logits. Nothing else in the project is allowed to disagree with it.
"""

from torch import Tensor

from botvision.attention.tables import relative_rows


def definition_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rel_height: Tensor,
    rel_width: Tensor,
    size: tuple[int, int],
    scale: float,
) -> Tensor:
    """softmax(q k^T + q r^T) v over all positions of an H x W map (paper, Section 3 and Figure 4).

    Args:
        q, k: (B, heads, H*W, d), positions in row-major order.
        v: (B, heads, H*W, e), likewise.
        rel_height: (2H - 1, d), vectors of the vertical distances -(H-1) .. H-1.
        rel_width: (2W - 1, d), vectors of the horizontal distances.
        size: (H, W).
        scale: multiplies q before both terms.

    Returns:
        (B, heads, H*W, e).
    """
    q = q * scale
    content = q @ k.transpose(-2, -1)
    vertical, horizontal = position_logits(q, rel_height, rel_width, size)
    position = vertical[..., :, None] + horizontal[..., None, :]
    return (content + position.flatten(-2).flatten(2, 3)).softmax(dim=-1) @ v


def position_logits(q: Tensor, rel_height: Tensor, rel_width: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """q r^T in its two terms, each of rank H or W for a query instead of H*W.

    Args:
        q: scaled queries, (B, heads, H*W, d).
        rel_height, rel_width: (2H - 1, d) and (2W - 1, d).
        size: (H, W).

    Returns:
        (B, heads, H, W, H): what every key row adds to a query's logit; (B, heads, H, W, W): every key column.
    """
    # Batch and heads go behind the map's own axes: merged in this order, no size that a compiled or exported program
    # leaves open has to be compared with another.
    grid = q.unflatten(2, size).permute(2, 3, 0, 1, 4)
    vertical = line_logits(grid, relative_rows(rel_height, size[0]))
    horizontal = line_logits(grid.transpose(0, 1), relative_rows(rel_width, size[1])).transpose(0, 1)
    return vertical.permute(2, 3, 0, 1, 4), horizontal.permute(2, 3, 0, 1, 4)


def line_logits(lines: Tensor, vectors: Tensor) -> Tensor:
    """Queries times the vectors of their own row or column.

    Args:
        lines: (L, M, B, heads, d), the queries of each of L rows (or columns).
        vectors: (L, L, d), as [coordinate of the query, coordinate of the key].

    Returns:
        (L, M, B, heads, L).
    """
    return (lines.contiguous().flatten(1, 3) @ vectors.transpose(1, 2)).unflatten(1, lines.shape[1:4])
