"""Relative positions as a separable bias: q r^T of Figure 4 depends on a key's row and on its column, never on both."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from botvision.attention.backends.cpu_products import linear


def relative_biases(
    q: Tensor, rel_height: Tensor, rel_width: Tensor, size: Sequence[int], key_size: Sequence[int], scale: float
) -> tuple[Tensor, Tensor]:
    """scale * q r^T in its two terms.

    Args:
        q: (B, heads, H*W, d).
        rel_height, rel_width: (H + H' - 1, d) and (W + W' - 1, d), one vector for each distance from a query to a key,
            from -(H-1) and -(W-1) on.
        size, key_size: (H, W) and (H', W').
        scale: multiplies both.

    Returns:
        bias_height (B, heads, H*W, H') and bias_width (B, heads, H*W, W'), in q's dtype, but float32 for half
        precision: rounded logits would be rounded probabilities.
    """
    with without_autocast(q):
        dtype = torch.promote_types(q.dtype, torch.float32)
        grid = q.to(product_dtype(q)).unflatten(2, size)
        # Scaling the tables costs less, but numbers of half precision must stay what they are.
        is_half = q.dtype != dtype
        rel_height, rel_width = (table.to(grid.dtype) * (1 if is_half else scale) for table in (rel_height, rel_width))
        height = products_by_distance(grid.transpose(2, 3), rel_height, key_size[0]).transpose(2, 3)
        width = products_by_distance(grid, rel_width, key_size[1])
        height, width = (bias.flatten(2, 3).to(dtype) for bias in (height, width))
        return (height * scale, width * scale) if is_half else (height, width)


def products_by_distance(lines: Tensor, table: Tensor, keys: int) -> Tensor:
    """Every query times the vectors of its distances to the keys of its own line.

    One product with the whole table, of which each query then takes a window: the window of the next query in the line
    begins one distance earlier. With one row of zeros after the table, that is every row of a matrix whose rows are one
    number shorter; so the windows are a view, and the table is never spread over pairs of positions.

    Args:
        lines: (..., L, d), the queries of a row or column of the map.
        table: (L + L' - 1, d).
        keys: L'.

    Returns:
        (..., L, L').
    """
    queries, distances = lines.shape[-2], table.shape[0]
    products = linear(lines, F.pad(table, (0, 0, 0, 1)))
    windows = products.flatten(-2)[..., queries - 1 : queries - 1 + queries * distances]
    return windows.unflatten(-1, (queries, distances))[..., :keys]


def padding_biases(
    valid_size: Tensor, size: Sequence[int], *, queries: int, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Biases of :func:`~botvision.attention.biased.biased_attention` that mask the padding of a map of keys.

    Args:
        valid_size: (B, 2), for each image the rows and columns, at least 1, of its map that are no padding, from the
            first on.
        size: (H', W') of the map.
        queries: N.
        dtype: of the biases.

    Returns:
        (B, 1, N, H') and (B, 1, N, W'): 0, and -inf in the padding.
    """
    biases = []
    for length, valid in zip(size, valid_size.unbind(dim=1), strict=True):
        is_padding = torch.arange(length, device=valid_size.device) >= valid[:, None, None, None]
        zeros = torch.zeros(is_padding.shape, dtype=dtype, device=valid_size.device)
        biases.append(zeros.masked_fill(is_padding, -torch.inf).expand(-1, -1, queries, -1))
    return biases[0], biases[1]


def product_dtype(q: Tensor) -> torch.dtype:
    """The dtype whose products keep float32 precision, whatever the user allows PyTorch's float32 products to lose.

    On a GPU ``allow_tf32`` rounds the factors of a float32 product to 11 bits: numbers of half precision have no more,
    those of float32 are multiplied as float64.
    """
    if q.dtype == torch.float32 and q.device.type == "cuda":
        return torch.float64
    return torch.promote_types(q.dtype, torch.float32)


def without_autocast(q: Tensor) -> AbstractContextManager[Any]:
    """A context that keeps autocast from rounding the products inside."""
    return torch.autocast(q.device.type, enabled=False) if has_autocast(q) else nullcontext()


def has_autocast(tensor: Tensor) -> bool:
    """Whether autocast can be on for its device; PyTorch 2.11 cannot compile its own question for that."""
    return tensor.device.type != "meta"
