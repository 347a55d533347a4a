"""MHSA2d: the multi-head self-attention layer of the paper's Figure 4, in the kinds of Table 4."""

from collections.abc import Callable

from torch import Tensor, nn

from botvision.attention import absolute_attention, content_attention, position_attention, relative_attention
from botvision.configuration import FieldError
from botvision.errors import UserError
from botvision.layers.costs import ABSOLUTE_KIND, ATTENTION_KINDS, attention_products
from botvision.layers.tables import PositionTables

WITH_POSITIONS: dict[str, Callable[..., Tensor]] = {
    "qr_relative": position_attention,
    "qk+qr_relative": relative_attention,
    "qk+qr_absolute": absolute_attention,
}


class MHSA2d(PositionTables):
    """Global self-attention over the positions of a feature map, with split position encodings (Figure 4).

    q, k and v are 1x1 projections, stored in one convolution; there is no output projection. The input can have any
    height and width: ``size`` is only the map that the tables are made for. A state dict for another size is adapted
    when it is loaded.

    Args:
        channels: C, of the input.
        size: (H, W) of the map that the tables are made for; None for ``kind="qk"``, which has no tables.
        heads: number of heads (paper: 4).
        kind: one of :data:`~botvision.layers.costs.ATTENTION_KINDS`.
        out_channels: C', heads times the width of the values; C by default.
        head_width: d, width of the queries, keys and position vectors of one head; C' / heads by default.
        bias: whether the projections have a bias.
        stride: 1, or 2 for the 2x2 average pooling that follows attention in a block of stride 2 (Section 3), as
            :class:`~botvision.layers.HalvingPool` computes it.

    Raises:
        UserError: a count that is not a whole number of at least 1, ``heads`` that does not divide ``out_channels``,
            another stride, an unknown kind, a kind with tables and no size, or a size that is not (H, W).

    Shape:
        input (B, C, H, W), output (B, C', ceil(H / stride), ceil(W / stride)) in channels-last memory.
    """

    relates_all_positions = True

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
        stride: int = 1,
    ) -> None:
        super().__init__()
        out_channels = channels if out_channels is None else out_channels
        counts = {"channels": channels, "out_channels": out_channels, "head_width": head_width, "heads": heads}
        for name, count in counts.items():
            if count is not None and (not isinstance(count, int) or count < 1):
                raise FieldError((name,), f"should be a whole number, at least 1, got {count!r}")
        if out_channels % heads:
            raise FieldError(("heads",), f"should divide the channels, got {heads} heads and {out_channels} channels")
        if kind not in ATTENTION_KINDS:
            raise FieldError(("kind",), f"should be one of {', '.join(ATTENTION_KINDS)}, got {kind!r}")
        if stride not in (1, 2):
            raise FieldError(("stride",), f"should be 1 or 2, got {stride!r}")
        self.heads = heads
        self.kind = kind
        self.stride = stride
        self.head_width = out_channels // heads if head_width is None else head_width
        queries = [self.head_width * heads] * (1 if kind == "qr_relative" else 2)
        self.widths = [*queries, out_channels]
        self.qkv = nn.Conv2d(channels, sum(self.widths), kernel_size=1, bias=bias)
        if kind != "qk":
            if size is None:
                raise FieldError(("size",), f"is missing: attention {kind!r} has position tables for a map size")
            self.add_tables(size, self.head_width, is_relative=kind != ABSOLUTE_KIND)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw projections from N(0, 1/C) and tables from N(0, 1/d)."""
        nn.init.normal_(self.qkv.weight, std=self.qkv.in_channels**-0.5)
        if self.qkv.bias is not None:
            nn.init.zeros_(self.qkv.bias)
        for table in self.tables():
            nn.init.normal_(table, std=self.head_width**-0.5)

    def forward(self, x: Tensor, valid_size: Tensor | None = None) -> Tensor:
        """Attend from every position to every position: (B, C, H, W) -> (B, C', ceil(H / stride), ceil(W / stride)).

        Args:
            x: the map.
            valid_size: (B, 2), for each image the rows and columns of its map that are no padding, from the first on;
                no position attends to the padding. The whole map by default.

        Raises:
            UserError: the input does not have four axes.
        """
        if x.ndim != 4:
            raise UserError(f"the feature map should be (B, C, H, W), got shape {tuple(x.shape)}")
        height, width = x.shape[2:]
        # In channels-last memory these are views, and the last axis of each head is contiguous, which PyTorch's
        # attention kernels need to take their fast path.
        pixels = self.qkv(x).permute(0, 2, 3, 1).flatten(1, 2)
        parts = [part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in pixels.split(self.widths, dim=-1)]
        out = self.attend(parts, (height, width), valid_size, pool=self.stride == 2)
        on_map = (
            out.transpose(1, 2).flatten(2).unflatten(1, [(side - 1) // self.stride + 1 for side in (height, width)])
        )
        return on_map.permute(0, 3, 1, 2)

    def attend(
        self, parts: list[Tensor], size: tuple[int, int], valid_size: Tensor | None = None, *, pool: bool = False
    ) -> Tensor:
        """[q, k, v], or [q, v] for ``qr_relative``, each (B, heads, H*W, d) -> (B, heads, H*W, C' / heads).

        With ``pool`` the means of 2x2 cells of the map.
        """
        if self.kind == "qk":
            return content_attention(*parts, key_size=size, valid_size=valid_size, size=size, pool=pool)
        tables = [table.to(parts[0].dtype) for table in self.tables()]
        return WITH_POSITIONS[self.kind](*parts, *tables, size=size, valid_size=valid_size, pool=pool)

    def multiply_adds(self, height: int, width: int) -> int:
        """Multiply-adds on one map without the projections, which are counted as a convolution."""
        return attention_products(self.kind, self.heads, self.head_width, self.widths[-1], (height, width))

    def extra_repr(self) -> str:
        """What ``print(layer)`` shows beside the convolution."""
        rows = [len(table) for table in self.tables()]
        lengths = rows if self.kind == ABSOLUTE_KIND else [(count + 1) // 2 for count in rows]
        return f"kind={self.kind}, heads={self.heads}" + (f", tables for {lengths[0]}x{lengths[1]}" if rows else "")
