"""Blocks as data: what is in them and what they cost. Nothing here imports PyTorch; ``blocks.py`` makes them."""

from dataclasses import dataclass

from botvision.configuration import FieldError
from botvision.layers.costs import Cost, Size, attention_cost, convolution_cost, shrink
from botvision.layers.spatial import MakeNorm, Place, SpatialLayer, find_spatial_layer

EXPANSION = 4
"""Output channels of a block over its inner width (He et al. 2016)."""


@dataclass(frozen=True)
class BottleneckShape:
    """The block of the paper's Figure 1; see :class:`~botvision.layers.blocks.Bottleneck` for the fields."""

    in_channels: int
    width: int
    stride: int = 1
    spatial: str = "conv"
    size: Size | None = None
    heads: int = 4
    dilation: int = 1
    se_ratio: float = 0.0

    @property
    def layer(self) -> SpatialLayer:
        """The entry of the spatial layer; raises a FieldError where there is none."""
        return find_spatial_layer(self.spatial)

    def place(self, norm: MakeNorm | None = None) -> Place:
        """Where the spatial layer goes; a module is made with a norm."""
        return Place(self.width, self.size, self.stride, self.dilation, self.heads, norm)

    @property
    def outputs(self) -> int:
        """Channels of the output."""
        return EXPANSION * self.width

    @property
    def squeeze(self) -> int:
        """Channels inside squeeze-and-excitation; 0 where the block has none."""
        return max(1, round(self.outputs * self.se_ratio)) if self.se_ratio and self.layer.has_squeeze else 0

    @property
    def has_projection(self) -> bool:
        """Whether the shortcut is a convolution."""
        return self.stride != 1 or self.in_channels != self.outputs

    @property
    def description(self) -> tuple[str, ...]:
        """One line for each layer, in the notation of Table 1."""
        lines = (f"1x1, {self.width}", self.layer.describe(self.place()), f"1x1, {self.outputs}")
        return (*lines, f"SE, {self.squeeze}") if self.squeeze else lines

    def cost(self, size: Size, norm_values: int) -> Cost:
        """On a map (H, W), with so many learned values in a channel of a norm.

        Raises:
            FieldError: the spatial layer does not say what it costs.
        """
        if self.layer.cost is None:
            raise FieldError(("spatial",), f"{self.spatial!r} does not say what it costs")
        out = shrink(size, self.stride)
        cost = convolution_cost(self.in_channels, self.width, 1, size)
        cost += self.layer.cost(self.place(), size, norm_values)
        cost += convolution_cost(self.width, self.outputs, 1, out)
        channels = 2 * self.width + self.outputs
        if self.squeeze:  # two layers with biases, on one position
            products = 2 * self.outputs * self.squeeze
            cost += Cost(products + self.outputs + self.squeeze, products)
        if self.has_projection:
            cost += convolution_cost(self.in_channels, self.outputs, 1, out)
            channels += self.outputs
        return cost + Cost(norm_values * channels)


@dataclass(frozen=True)
class NonLocalShape:
    """The Non-Local block of Table 7."""

    channels: int
    stride: int = 1

    @property
    def outputs(self) -> int:
        """Channels of the output."""
        return self.channels

    @property
    def description(self) -> tuple[str, ...]:
        """One line for each layer."""
        return (f"non-local, {self.channels // 2}", f"1x1, {self.channels}")

    def cost(self, size: Size, norm_values: int) -> Cost:
        """On a map (H, W), with so many learned values in a channel of a norm."""
        inner = self.channels // 2
        cost = attention_cost(self.channels, inner, 1, "qk", size, size)
        return cost + convolution_cost(inner, self.channels, 1, size) + Cost(norm_values * self.channels)
