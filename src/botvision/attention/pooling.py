"""2x2 average pooling, which follows attention in a block of stride 2 (paper, Section 3): of maps, and in attention.

Pooling is linear, and so is the product of probabilities with v. So attention can average the probabilities of the four
queries of a cell first, and multiply once: 5 of 8 multiply-adds of a forward pass are left.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from botvision.symbolic import always_true

MEMBERS = 4
"""Queries of a cell."""


def halve(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, ceil(H / 2), ceil(W / 2)); at an odd edge it is the mean of the pixels that exist.

    It computes ``F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)``, but gets the output size by the formula
    of a strided 1x1 convolution, so that a compiled or exported program of unknown size can prove that both are equal.
    """
    return F.avg_pool2d(x if has_even_sides(x) else with_last_repeated(x), 2)


def halve_answers(answers: Tensor, size: tuple[int, int]) -> Tensor:
    """:func:`halve` for answers (B, heads, H*W, e) to the queries of an (H, W) map: (B, heads, H'*W', e)."""
    heads = answers.shape[1]
    maps = answers.transpose(1, 2).flatten(2).unflatten(1, size).permute(0, 3, 1, 2)
    return halve(maps).permute(0, 2, 3, 1).flatten(1, 2).unflatten(2, (heads, -1)).transpose(1, 2)


def by_cells(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Tensors of the queries of a map, (B, heads, H*W, n), in the order of their 2x2 cells.

    Returns:
        (B, heads, 4 * H' * W', n), H' and W' as in :func:`halve`: the upper left query of every cell, then the upper
        right ones, the lower left and the lower right. A query at an odd edge is there more than once.
    """
    rows, columns = ((side - 1) // 2 + 1 for side in size)
    # The same for all queries, and in memory once. Where it is differentiated, each query has a gradient of its own.
    if x.stride(2) == 0 and not x.requires_grad:
        return x[:, :, :1].expand(-1, -1, MEMBERS * rows * columns, -1)
    grid = x.unflatten(2, size)
    if not has_even_sides(grid):
        # A copy, as a traced program of unknown size would have to know whether there is none.
        grid = with_last_repeated(grid)[:, :, : 2 * rows, : 2 * columns].clone(memory_format=torch.contiguous_format)
    cells = grid.unflatten(3, (columns, 2)).unflatten(2, (rows, 2))
    return cells.permute(0, 1, 3, 5, 2, 4, 6).flatten(2, 5)


def has_even_sides(x: Tensor) -> bool:
    """Whether a map, on axes 2 and 3, has even sides, whatever size a traced program leaves open."""
    return all(always_true(side % 2 == 0) for side in x.shape[2:4])


def with_last_repeated(x: Tensor) -> Tensor:
    """A map, on axes 2 and 3, with its last row and column repeated; of an even side no cell has them."""
    # Not F.pad: under torch.compile the gradient of mode "replicate" is assumed to have another memory layout than it
    # has (PyTorch 2.15).
    x = torch.cat([x, x[:, :, -1:]], dim=2)
    return torch.cat([x, x[:, :, :, -1:]], dim=3)
