"""Position tables: how a table that was learned for one map size serves another."""

import torch
from torch import Tensor

from botvision.errors import UserError
from botvision.symbolic import always_true


def fits_a_map(rows: int, is_relative: bool) -> bool:
    """Whether a table of so many rows is one of a map: of 2L - 1 relative distances, or of L positions."""
    return rows % 2 == 1 if is_relative else rows > 0


def adapt_relative_table(table: Tensor, length: int, key_length: int | None = None) -> Tensor:
    """Fit a table of relative distances to a map of another length.

    Row ``i`` of a table for length L holds the distance ``i - (L - 1)``. A shorter map takes the central rows, so
    that every distance keeps its own vector; a longer one stretches the table linearly, so that distance 0 stays
    in the middle and the longest distances stay at the ends.

    Args:
        table: (2L - 1, d), for a map of length L.
        length: the wanted map's length along this axis, in positions, at least 1.
        key_length: of the keys' map, where it is another than that of the queries.

    Returns:
        (length + key_length - 1, d), the distances -(length - 1) .. key_length - 1 from a query to a key; the same
        tensor where it already fits.

    Raises:
        UserError: the table has an even number of rows, so no row stands for distance 0.
    """
    if table.shape[0] % 2 == 0:
        raise UserError(f"a relative table has 2L - 1 rows, an odd number; this one has {table.shape[0]}")
    if key_length is None:
        return adapt_table(table, 2 * length - 1)
    longest = max(length, key_length)
    return adapt_table(table, 2 * longest - 1)[longest - length : longest + key_length - 1]


def adapt_table(table: Tensor, rows: int) -> Tensor:
    """The central ``rows`` of a longer table, or a shorter one stretched linearly from end to end.

    A map whose size is only known when a compiled or exported program runs is served by ``resample``, which does
    either without a branch; anywhere else a table that is long enough costs nothing.

    Args:
        table: (L, d), one vector a position or distance.
        rows: wanted, at least 1. Of an odd surplus the larger half is cut from the end.

    Returns:
        (rows, d); a view of the table where it is long enough.
    """
    surplus = table.shape[0] - rows
    if always_true(surplus == 0):
        return table
    if always_true(surplus > 0):
        return table[surplus // 2 : surplus // 2 + rows]
    return resample(table, rows)


def resample(table: Tensor, rows: int) -> Tensor:
    """:func:`adapt_table` as tensor operations alone: the choice of slice or stretch is made by the running size."""
    have = table.shape[0]
    index = torch.arange(rows, device=table.device)
    last = index[-1].clamp(min=1)
    is_slice = last < have
    stretched = index * (have - 1)  # over last; whole numbers, so that the place in the table is exact
    below = torch.where(is_slice, index + (have - rows) // 2, stretched // last)
    rest = torch.where(is_slice, 0, stretched % last) / last.to(torch.promote_types(table.dtype, torch.float32))
    above = (below + 1).clamp(max=have - 1)
    return torch.lerp(table[below], table[above], rest.to(table.dtype)[:, None])
