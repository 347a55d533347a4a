"""Relative positions by three Triton programs: both biases of Figure 4's q r^T, and the gradients of q and the tables.

    bias_height[i, y] = scale * q_i . rel_height[y - y_i + H - 1]        bias_width likewise

It is :func:`~botvision.attention.positions.relative_biases` in one launch, and its backward pass in two launches and a
sum for each table. PyTorch's operations take dozens of kernels for that, each with its start, and copies of q, the
products and the biases in float32. In the forward pass products of half precision are exact before they are summed, in
float32. In the backward pass the gradients of biases are cut to the digits of q's dtype, but not to float16's range.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from botvision.attention.backends.query_blocks import empty_output
from botvision.attention.backends.triton_launch import (
    Blocks,
    block_width,
    choose_plan,
    divide_up,
    with_contiguous_vectors,
    with_strides,
)

PROGRAMS = 256
"""Programs for the gradients of the tables, about two for each core of a large card.

It is fixed, so that every run adds in the same order. The shares that are summed at the end take no more memory than
that many tiles, for each of both tables.
"""


def position_biases(
    q: Tensor, rel_height: Tensor, rel_width: Tensor, size: Sequence[int], scale: float
) -> tuple[Tensor, Tensor]:
    """``scale * q r^T`` in its two terms, contiguous and in float32: (B, heads, H*W, H') and (B, heads, H*W, W').

    Args:
        q: (B, heads, H*W, d), any strides.
        rel_height, rel_width: (H + H' - 1, d) and (W + W' - 1, d), in q's dtype.
        size: (H, W).
        scale: multiplies both.
    """
    keys = key_size(rel_height, rel_width, size)
    biases = [torch.empty((*q.shape[:3], side), dtype=torch.float32, device=q.device) for side in keys]
    if q.numel():
        from botvision.attention.backends.triton_position_programs import bias_program

        tables = tuple(map(with_row_stride, (rel_height, rel_width)))
        q = with_contiguous_vectors(q)
        blocks = choose_plan(q, q).biases
        operands = with_strides(q), tables, tuple(biases)
        launch(bias_program, (count_blocks(q, blocks),), blocks, q, size, keys, scale, *operands)
    return biases[0], biases[1]


def position_gradients(
    grad_biases: tuple[Tensor, Tensor],
    q: Tensor,
    tables: tuple[Tensor, Tensor],
    size: Sequence[int],
    scale: float,
    needed: Sequence[bool],
) -> list[Tensor | None]:
    """Gradients of q, rel_height and rel_width, in their dtypes; None for those that are not needed.

    Args:
        grad_biases: of what :func:`position_biases` returned; any strides.
        q, tables, size, scale: as they went in.
        needed: for each of the three tensors, whether its gradient is asked for.
    """
    if q.numel() == 0:
        return [x.new_zeros(x.shape) if need else None for x, need in zip((q, *tables), needed, strict=True)]
    upstream = tuple(grad.contiguous() for grad in grad_biases)
    of_q = query_gradient(upstream, q, tables, size, scale) if needed[0] else None
    of_tables = table_gradients(upstream, q, tables, size, scale) if any(needed[1:]) else (None, None)
    return [of_q, *(grad if need else None for grad, need in zip(of_tables, needed[1:], strict=True))]


def query_gradient(
    upstream: tuple[Tensor, ...], q: Tensor, tables: tuple[Tensor, Tensor], size: Sequence[int], scale: float
) -> Tensor:
    """The gradient of q."""
    from botvision.attention.backends.triton_position_programs import bias_query_gradient_program

    grad_q = empty_output(q, q)
    operands = tuple(map(with_row_stride, tables)), upstream, with_strides(grad_q)
    blocks = choose_plan(q, q).bias_query_gradient
    grid = (count_blocks(q, blocks),)
    launch(bias_query_gradient_program, grid, blocks, q, size, key_size(*tables, size), scale, *operands)
    return grad_q


def table_gradients(
    upstream: tuple[Tensor, ...], q: Tensor, tables: tuple[Tensor, Tensor], size: Sequence[int], scale: float
) -> tuple[Tensor, Tensor]:
    """The gradients of both tables, each the sum of shares that other programs make of other queries."""
    from botvision.attention.backends.triton_position_programs import table_gradient_program

    blocks = choose_plan(q, q).table_gradient
    all_blocks = count_blocks(q, blocks)
    runs = max(divide_up(table.shape[0], blocks.keys) for table in tables)
    count = min(max(1, PROGRAMS // runs), all_blocks)
    shares = tuple(torch.empty((count, *table.shape), dtype=torch.float32, device=q.device) for table in tables)
    q = with_contiguous_vectors(q)
    operands = with_strides(q), upstream, shares, all_blocks
    launch(table_gradient_program, (count, runs), blocks, q, size, key_size(*tables, size), scale, *operands)
    of_height, of_width = (share.sum(dim=0).to(table.dtype) for share, table in zip(shares, tables, strict=True))
    return of_height, of_width


def launch(
    program: Any,  # noqa: ANN401
    grid: tuple[int, ...],
    blocks: Blocks,
    q: Tensor,
    size: Sequence[int],
    keys: Sequence[int],
    scale: float,
    *operands: Any,  # noqa: ANN401
) -> None:
    """Run a grid of one program; ``operands`` are the arguments before the sizes."""
    with torch.cuda.device_of(q):
        program[grid](
            *operands,
            *(*q.shape[1:3], *size, *keys, scale),
            WIDTH=q.shape[3],
            BLOCK=block_width(q.shape[3]),
            QUERIES=blocks.queries,
            DISTANCES=blocks.keys,
            num_warps=blocks.warps,
            num_stages=blocks.stages,
        )


def count_blocks(q: Tensor, blocks: Blocks) -> int:
    """Blocks of queries of all heads of all images."""
    batch, heads, queries, _ = q.shape
    return batch * heads * divide_up(queries, blocks.queries)


def key_size(rel_height: Tensor, rel_width: Tensor, size: Sequence[int]) -> tuple[int, int]:
    """(H', W'), the map of the keys that the tables are for."""
    return rel_height.shape[0] - size[0] + 1, rel_width.shape[0] - size[1] + 1


def with_row_stride(table: Tensor) -> tuple[Tensor, int]:
    """A table as the programs take it: with contiguous vectors, and the stride of its rows."""
    table = with_contiguous_vectors(table)
    return table, table.stride(0)
