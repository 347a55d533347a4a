"""What layers with position tables share: the tables, and loading those that were made for another map size."""

import logging
from typing import Any

import torch
from torch import Tensor, nn

from botvision.attention import adapt_table, map_size
from botvision.attention.tables import fits_a_map

logger = logging.getLogger("botvision")

RELATIVE, ABSOLUTE = ("rel_height", "rel_width"), ("abs_height", "abs_width")
"""Names of the tables in a layer, and so in state dicts."""


class PositionTables(nn.Module):
    """Base of a layer with one learned table for the height and one for the width of a feature map."""

    table_names: tuple[str, ...] = ()

    def add_tables(self, size: tuple[int, int], width: int, is_relative: bool = True) -> None:
        """Register the tables, not yet initialised.

        Args:
            size: (H, W) of the map that the tables are made for.
            width: d, length of one position vector.
            is_relative: (2H - 1, d) and (2W - 1, d), one vector for each distance; otherwise (H, d) and (W, d), one for
                each position.

        Raises:
            UserError: ``size`` is not two whole numbers of at least 1.
        """
        self.table_names = RELATIVE if is_relative else ABSOLUTE
        for name, length in zip(self.table_names, map_size("size", size), strict=True):
            rows = 2 * length - 1 if is_relative else length
            self.register_parameter(name, nn.Parameter(torch.empty(rows, width)))

    def tables(self) -> list[Tensor]:
        """The tables of height and width; an empty list for a layer without."""
        return [getattr(self, name) for name in self.table_names]  # by name: pruning registers them again

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:  # noqa: ANN401
        """Adapt tables that were made for another size. PyTorch refuses every other difference in shape."""
        adapted = []
        for name, table in zip(self.table_names, self.tables(), strict=True):
            given = state_dict.get(prefix + name)
            if given is None or not can_adapt(name, given, table) or len(given) == len(table):
                continue
            with torch.no_grad():  # state_dict is PyTorch's own shallow copy: the caller's is not changed
                state_dict[prefix + name] = adapt_table(given, len(table))
            adapted.append(f"{prefix}{name} from {len(given)} to {len(table)} rows")
        if adapted:
            logger.warning("position tables were made for another size and are adapted: %s", ", ".join(adapted))
        super()._load_from_state_dict(state_dict, prefix, *args)


def can_adapt(name: str, given: Tensor, table: Tensor) -> bool:
    """Whether this is the name of a position table, and a tensor from a file is such a table for some map."""
    name = name.rpartition(".")[2]
    has_vectors = given.ndim == 2 and given.shape[1:] == table.shape[1:]
    return name in (*RELATIVE, *ABSOLUTE) and has_vectors and fits_a_map(len(given), name in RELATIVE)
