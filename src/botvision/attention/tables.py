"""Relative-position tables: how a table made for one map size serves another."""

import torch
import torch.nn.functional as F
from torch import Tensor


def adapt_relative_table(table: Tensor, length: int) -> Tensor:
    """Fit a table of relative distances to a map of another length.

    Row ``i`` of a table for length L holds the distance ``i - (L - 1)``. A shorter map takes the central rows, so
    that every distance keeps its own vector; a longer one stretches the table linearly, so that distance 0 stays
    in the middle and the longest distances stay at the ends.

    Args:
        table: (2L - 1, d), for a map of length L.
        length: the wanted map's length along this axis, in positions, at least 1.

    Returns:
        (2 * length - 1, d), the same tensor where it already fits.

    Raises:
        ValueError: the table has an even number of rows, so no row stands for distance 0.
    """
    rows = table.shape[0]
    if rows % 2 == 0:
        raise ValueError(f"a relative table has 2L - 1 rows, an odd number; this one has {rows}")
    wanted = 2 * length - 1
    if wanted == rows:
        return table
    if wanted < rows:
        start = (rows - wanted) // 2
        return table[start : start + wanted]
    stretched = F.interpolate(table.T[None], size=wanted, mode="linear", align_corners=True)
    return stretched[0].T


def relative_rows(table: Tensor, length: int) -> Tensor:
    """Lay a relative table out as one vector for each (query, key) pair of coordinates along an axis.

    Args:
        table: (2 * length - 1, d); row ``key - query + length - 1`` belongs to that distance.
        length: positions along this axis.

    Returns:
        (length, length, d): entry [query, key] is the vector R[key - query] of Figure 4.
    """
    position = torch.arange(length, device=table.device)
    return table[position[None, :] - position[:, None] + length - 1]
