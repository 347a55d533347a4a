"""MHSA2d: the multi-head self-attention layer of the paper's Figure 4, in the kinds of Table 4."""

import logging
from typing import Any

import torch
from torch import Tensor, nn

from botvision.attention import (
    absolute_attention,
    adapt_relative_table,
    adapt_table,
    content_attention,
    map_size,
    position_attention,
    relative_attention,
)
from botvision.errors import UserError

ATTENTION_KINDS = ("qk", "qr_relative", "qk+qr_relative", "qk+qr_absolute")
"""Rows of Table 4: what the logits are made of. The fifth, no attention at all, is a convolution."""


logger = logging.getLogger("botvision")


class MHSA2d(nn.Module):
    """Global self-attention over the positions of a feature map, with split position encodings (Figure 4).

    q, k and v are 1x1 projections, kept in one convolution; there is no output projection. Any height and width can
    go in: ``size`` only says for which map the tables are made, and a state dict for another loads, adapted.

    Args:
        channels: C, of the input.
        size: (H, W) of the map that the tables are made for; ``kind="qk"`` has none and takes None.
        heads: number of heads (paper: 4).
        kind: one of :data:`ATTENTION_KINDS`.
        out_channels: C', heads times the width of the values; C by default.
        head_width: d, width of one head's queries, keys and position vectors; C' / heads by default.
        bias: whether the projections add one.

    Raises:
        UserError: ``heads`` does not divide ``out_channels``, an unknown kind, or a kind with tables and no size or
            one that is not (H, W).

    Shape:
        input (B, C, H, W), output (B, C', H, W) in channels-last memory.
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int] | None,
        heads: int = 4,
        kind: str = "qk+qr_relative",
        *,
        out_channels: int | None = None,
        head_width: int | None = None,
        bias: bool = False,
    ) -> None:
        super().__init__()
        out_channels = channels if out_channels is None else out_channels
        for name, count in {"channels": channels, "out_channels": out_channels, "head_width": head_width}.items():
            if count is not None and (not isinstance(count, int) or count < 1):
                raise UserError(f"{name} must be a whole number, at least 1, got {count!r}")
        if not isinstance(heads, int) or heads < 1:
            raise UserError(f"heads must be a whole number, at least 1, got {heads!r}")
        if out_channels % heads:
            raise UserError(f"heads must divide the channels: {heads} heads, {out_channels} channels")
        if kind not in ATTENTION_KINDS:
            raise UserError(f"unknown kind of attention {kind!r}, the kinds are {', '.join(ATTENTION_KINDS)}")
        self.heads = heads
        self.kind = kind
        self.head_width = out_channels // heads if head_width is None else head_width
        self.table_names: tuple[str, ...] = ()
        queries = [self.head_width * heads] * (1 if kind == "qr_relative" else 2)
        self.widths = [*queries, out_channels]
        self.qkv = nn.Conv2d(channels, sum(self.widths), kernel_size=1, bias=bias)
        if kind != "qk":
            if size is None:
                raise UserError(f"attention {kind!r} has position tables and needs the size they are made for")
            self.table_names = ("abs_height", "abs_width") if kind == "qk+qr_absolute" else ("rel_height", "rel_width")
            for name, length in zip(self.table_names, map_size("size", size), strict=True):
                rows = length if kind == "qk+qr_absolute" else 2 * length - 1
                self.register_parameter(name, nn.Parameter(torch.empty(rows, self.head_width)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw projections from N(0, 1/C) and tables from N(0, 1/d)."""
        nn.init.normal_(self.qkv.weight, std=self.qkv.in_channels**-0.5)
        if self.qkv.bias is not None:
            nn.init.zeros_(self.qkv.bias)
        for table in self.tables():
            nn.init.normal_(table, std=self.head_width**-0.5)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:  # noqa: ANN401
        """Adapt tables that were made for another size; PyTorch refuses whatever else is of another shape."""
        adapted = []
        for name, table in zip(self.table_names, self.tables(), strict=True):
            given = state_dict.get(prefix + name)
            if given is None or given.ndim != 2 or given.shape[1:] != table.shape[1:] or len(given) == len(table):
                continue
            is_relative = name.startswith("rel_")
            if not len(given) or (is_relative and len(given) % 2 == 0):  # no table of any map
                continue
            with torch.no_grad():  # state_dict is PyTorch's own copy, the caller's stays as it is
                state_dict[prefix + name] = (
                    adapt_relative_table(given, (len(table) + 1) // 2)
                    if is_relative
                    else adapt_table(given, len(table))
                )
            adapted.append(f"{prefix}{name} from {len(given)} to {len(table)} rows")
        if adapted:
            logger.warning("position tables were made for another size and are adapted: %s", ", ".join(adapted))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def tables(self) -> list[Tensor]:
        """The position tables of height and width; none for ``kind="qk"``."""
        return [getattr(self, name) for name in self.table_names]  # by name: pruning and the like re-register them

    def forward(self, x: Tensor) -> Tensor:
        """Attend from every position to every position: (B, C, H, W) -> (B, C', H, W).

        Raises:
            UserError: anything else than four axes.
        """
        if x.ndim != 4:
            raise UserError(f"the feature map must be (B, C, H, W), got shape {tuple(x.shape)}")
        height, width = x.shape[2:]
        # In channels-last memory these are views, and the last axis of each head is contiguous, which the stock
        # attention kernels need to take their fast path.
        pixels = self.qkv(x).permute(0, 2, 3, 1).flatten(1, 2)
        parts = [part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in pixels.split(self.widths, dim=-1)]
        out = self.attend(parts, (height, width))
        return out.transpose(1, 2).flatten(2).unflatten(1, (height, width)).permute(0, 3, 1, 2)

    def attend(self, parts: list[Tensor], size: tuple[int, int]) -> Tensor:
        """[q, k, v], or [q, v] for ``qr_relative``, each (B, heads, H*W, d) -> (B, heads, H*W, C' / heads)."""
        tables = [table.to(parts[0].dtype) for table in self.tables()]
        if self.kind == "qk+qr_relative":
            return relative_attention(*parts, *tables, size=size)
        if self.kind == "qr_relative":
            return position_attention(*parts, *tables, size=size)
        if self.kind == "qk+qr_absolute":
            return absolute_attention(*parts, *tables, size=size)
        return content_attention(*parts)

    def extra_repr(self) -> str:
        """Show what the convolution inside does not."""
        rows = [table.shape[0] for table in self.tables()]
        lengths = rows if self.kind == "qk+qr_absolute" else [(count + 1) // 2 for count in rows]
        return f"kind={self.kind}, heads={self.heads}" + (f", tables for {lengths[0]}x{lengths[1]}" if rows else "")
