"""What layers cost, as numbers computed from their sizes: learned values, and multiply-adds as the paper counts them.

Nothing here imports PyTorch. The layers count their matrix products by the same functions.
"""

from dataclasses import dataclass

RELATIVE_KINDS = ("qr_relative", "qk+qr_relative")
"""Kinds of attention with a vector for every distance between two positions."""
ABSOLUTE_KIND = "qk+qr_absolute"
"""The kind with a vector for every position."""
ATTENTION_KINDS = ("qk", *RELATIVE_KINDS, ABSOLUTE_KIND)
"""Rows of Table 4: the terms of the logits. The fifth row, no attention, is a convolution."""
KEY_WIDTH = 16
"""|k|, length of a lambda layer's queries and keys, of its paper's ResNet-50."""
WINDOW = 23
"""Side of a lambda layer's local context, of its paper's ResNet-50, in positions."""

Size = tuple[int, int]
"""Height and width of a map, in positions."""


@dataclass(frozen=True)
class Cost:
    """Of a layer, a block or a network."""

    parameters: int = 0
    """Learned values."""
    multiply_adds: int = 0
    """Of one image."""

    def __add__(self, other: "Cost") -> "Cost":
        """Of both together."""
        return Cost(self.parameters + other.parameters, self.multiply_adds + other.multiply_adds)


def shrink(size: Size, stride: int) -> Size:
    """(H, W) over a stride, rounded up."""
    return -(-size[0] // stride), -(-size[1] // stride)


def convolution_cost(channels: int, outputs: int, kernel: int, out: Size) -> Cost:
    """Of a convolution without bias that gives a map of size ``out``."""
    weights = channels * outputs * kernel**2
    return Cost(weights, weights * out[0] * out[1])


def table_rows(kind: str, size: Size) -> int:
    """Vectors in the two position tables of a kind of attention."""
    height, width = size
    if kind == ABSOLUTE_KIND:
        return height + width
    return 2 * height - 1 + 2 * width - 1 if kind in RELATIVE_KINDS else 0


def attention_products(kind: str, heads: int, head_width: int, outputs: int, size: Size) -> int:
    """Multiply-adds of attention on a map, without the projections.

    Positions count as q times the full (2H - 1) + (2W - 1) relative tables, as in Table 1 (102.98 G).
    """
    positions = size[0] * size[1]
    content = 0 if kind == "qr_relative" else positions
    return positions * (heads * head_width * (content + table_rows(kind, size)) + outputs * positions)


def attention_cost(channels: int, outputs: int, heads: int, kind: str, table: Size, size: Size) -> Cost:
    """Of ``MHSA2d`` with tables for one size, on a map of another; its heads are as wide as those of its outputs."""
    head_width = outputs // heads
    projections = convolution_cost(channels, outputs * (2 if kind == "qr_relative" else 3), 1, size)
    tables = head_width * table_rows(kind, table)
    return projections + Cost(tables, attention_products(kind, heads, head_width, outputs, size))


def lambda_products(heads: int, values: int, size: Size, *, is_global: bool) -> int:
    """Multiply-adds of a lambda layer with values of this width on a map, without the convolutions in it."""
    height, width = size
    tables = height * (2 * height - 1) + width * (2 * width - 1) if is_global else 0
    return KEY_WIDTH * values * (height * width * (1 + heads) + tables)


def lambda_cost(channels: int, heads: int, table: Size | None, size: Size, norm_values: int) -> Cost:
    """Of ``LambdaLayer``, of global context where it has tables for a size, on a map.

    ``norm_values`` are the learned values of a channel in its two norms.
    """
    values = channels // heads
    projections = convolution_cost(channels, heads * KEY_WIDTH + KEY_WIDTH + values, 1, size)
    norms = Cost(norm_values * (heads * KEY_WIDTH + values))
    if table is None:
        window = KEY_WIDTH * WINDOW**2
        positions = Cost(window, values * window * size[0] * size[1])  # the same kernels for each channel of the values
    else:
        positions = Cost(KEY_WIDTH * table_rows(RELATIVE_KINDS[0], table))
    products = lambda_products(heads, values, size, is_global=table is not None)
    return projections + norms + positions + Cost(multiply_adds=products)
