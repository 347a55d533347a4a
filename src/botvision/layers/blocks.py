"""The block of the paper's Figure 1, and the Non-Local block of Table 7.

A ResNet block and a Bottleneck Transformer (BoT) block are one class: they differ in the spatial layer between the two
1x1 convolutions. Names of modules are torchvision's, so that its state dicts load as they are.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torchvision.ops import SqueezeExcitation, StochasticDepth

from botvision.attention.pooling import halve
from botvision.configuration import FieldError
from botvision.layers.conv import convolution
from botvision.layers.mhsa import MHSA2d
from botvision.layers.shapes import BottleneckShape
from botvision.layers.spatial import MakeNorm


@dataclass(frozen=True)
class Style:
    """What all blocks of a network have in common."""

    norm: MakeNorm = nn.BatchNorm2d
    activation: type[nn.ReLU | nn.SiLU] = nn.ReLU
    se_ratio: float = 0.0
    """Channels inside squeeze-and-excitation over the block's output (Hu et al. 2018); 0 leaves it out."""


class Bottleneck(nn.Module):
    """Figure 1: 1x1 reduce, a spatial layer, 1x1 expand, and a shortcut around them.

    Args:
        in_channels: channels of the input.
        width: channels of the spatial layer; the output has 4 x width.
        stride: 1 or 2. A spatial layer without a stride of its own is followed by 2x2 average pooling.
        spatial: a name in :data:`~botvision.layers.spatial.SPATIAL_LAYERS`: "conv" is the ResNet block,
            "qk+qr_relative" the BoT block.
        size: (H, W) of the input map that position tables are made for; layers without tables need none.
        heads: heads of the spatial layer, if it has any.
        dilation: dilation of the spatial layer, if it has any.
        drop_path: chance that an image skips the block in training (stochastic depth, Huang et al. 2016).
        style: normalisation, activation, squeeze-and-excitation.

    Raises:
        UserError: another stride, an unknown spatial layer, or one that cannot be built at this width and size.

    Shape:
        input (B, in_channels, H, W), output (B, 4 * width, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int = 1,
        spatial: str = "conv",
        *,
        size: tuple[int, int] | None = None,
        heads: int = 4,
        dilation: int = 1,
        drop_path: float = 0.0,
        style: Style = Style(),
    ) -> None:
        super().__init__()
        if stride not in (1, 2):
            raise FieldError(("stride",), f"should be 1 or 2, got {stride!r}")
        shape = BottleneckShape(in_channels, width, stride, spatial, size, heads, dilation, style.se_ratio)
        layer, outputs, squeeze = shape.layer, shape.outputs, shape.squeeze
        self.spatial_name, self.masks_padding = layer.name, layer.masks_padding
        self.conv1 = convolution(in_channels, width, 1)
        self.bn1 = style.norm(width)
        self.add_module(layer.name, layer.make(shape.place(style.norm)))
        self.pool = HalvingPool() if stride == 2 and not layer.has_stride else nn.Identity()
        self.bn2 = style.norm(width)
        self.conv3 = convolution(width, outputs, 1)
        self.bn3 = start_at_zero(style.norm(outputs))
        self.se = squeeze_excitation(outputs, squeeze) if squeeze else nn.Identity()
        self.drop_path = StochasticDepth(drop_path, mode="row") if drop_path else nn.Identity()
        self.relu = style.activation(inplace=True)
        self.downsample = None
        if shape.has_projection:
            self.downsample = nn.Sequential(convolution(in_channels, outputs, 1, stride), style.norm(outputs))

    def norm_pairs(self) -> list[tuple[str, str]]:
        """Layers and the norms right behind them; see :func:`~botvision.models.folding.fold`."""
        return [("conv1", "bn1"), (self.spatial_name, "bn2"), ("conv3", "bn3")]

    def forward(self, x: Tensor, valid_size: Tensor | None = None) -> Tensor:
        """(B, in_channels, H, W) -> (B, 4 * width, H', W'); ``valid_size`` as for ``MHSA2d``."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        spatial = getattr(self, self.spatial_name)
        out = self.pool(spatial(out) if valid_size is None or not self.masks_padding else spatial(out, valid_size))
        out = self.relu(self.bn2(out))
        out = self.drop_path(self.se(self.bn3(self.conv3(out))))
        out += shortcut  # in place: no layer before it keeps its own output for the backward pass
        return self.relu(out)


class HalvingPool(nn.Module):
    """2x2 average pooling of stride 2 that rounds up, :func:`~botvision.attention.pooling.halve`.

    It computes ``nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False)``.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, ceil(H / 2), ceil(W / 2))."""
        return halve(x)


class NonLocalBlock(nn.Module):
    """The Non-Local block of Table 7 (Wang et al. 2018): one head at half the channels, no positions, a residual.

    Args:
        channels: C, of input and output, even.
        norm: makes the normalisation after the output projection.

    Shape:
        input and output (B, C, H, W).
    """

    def __init__(self, channels: int, norm: MakeNorm = nn.BatchNorm2d) -> None:
        super().__init__()
        self.mhsa = MHSA2d(channels, None, heads=1, kind="qk", out_channels=channels // 2)
        self.conv = convolution(channels // 2, channels, 1)
        self.bn = start_at_zero(norm(channels))

    def norm_pairs(self) -> list[tuple[str, str]]:
        """As in ``Bottleneck``."""
        return [("conv", "bn")]

    def forward(self, x: Tensor, valid_size: Tensor | None = None) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W); ``valid_size`` as for ``MHSA2d``."""
        return x + self.bn(self.conv(self.mhsa(x, valid_size)))


def start_at_zero(norm: nn.Module) -> nn.Module:
    """Let a residual branch start at zero. A frozen norm is left as it is: its weight could never grow again."""
    weight = getattr(norm, "weight", None)
    if isinstance(weight, nn.Parameter):
        nn.init.zeros_(weight)
    return norm


def squeeze_excitation(channels: int, squeeze: int) -> SqueezeExcitation:
    """torchvision's squeeze-and-excitation, with He initialisation."""
    layer = SqueezeExcitation(channels, squeeze)
    for conv in (layer.fc1, layer.fc2):
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return layer
