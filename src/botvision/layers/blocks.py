"""The two blocks of the paper's Figure 1: the ResNet bottleneck and the Bottleneck Transformer (BoT) block.

They differ in one place, the spatial layer between the two 1x1 convolutions. Names of their parts are torchvision's,
so that its state dicts load as they are.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torchvision.ops import SqueezeExcitation, StochasticDepth

from botvision.errors import UserError
from botvision.layers.mhsa import MHSA2d

EXPANSION = 4
"""Output channels of a block over its inner width (He et al. 2016)."""

MakeNorm = Callable[[int], nn.Module]
"""Channels -> a normalisation layer."""


@dataclass(frozen=True)
class Style:
    """What the blocks of a network have in common, whatever their spatial layer."""

    norm: MakeNorm = nn.BatchNorm2d
    activation: type[nn.ReLU | nn.SiLU] = nn.ReLU
    drop_path: float = 0.0
    """Chance that an image skips the block in training (stochastic depth, Huang et al. 2016)."""


class ResidualBlock(nn.Module):
    """What both blocks of Figure 1 share: 1x1 reduce, a spatial layer, 1x1 expand, and a shortcut around them.

    Args:
        in_channels: channels of the input.
        width: channels of the spatial layer; the output has 4 x width.
        stride: 1 or 2.
        style: normalisation, activation and stochastic depth.

    Raises:
        UserError: another stride.

    Shape:
        input (B, in_channels, H, W), output (B, 4 * width, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(self, in_channels: int, width: int, stride: int = 1, style: Style = Style()) -> None:
        super().__init__()
        if stride not in (1, 2):
            raise UserError(f"stride must be 1 or 2, got {stride!r}")
        out_channels = EXPANSION * width
        self.conv1 = nn.Conv2d(in_channels, width, kernel_size=1, bias=False)
        self.bn1 = style.norm(width)
        self.bn2 = style.norm(width)
        self.conv3 = nn.Conv2d(width, out_channels, kernel_size=1, bias=False)
        self.bn3 = style.norm(out_channels)
        self.relu = style.activation(inplace=True)
        self.se: nn.Module = nn.Identity()
        self.drop_path = StochasticDepth(style.drop_path, mode="row")
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            projection = nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False)
            self.downsample = nn.Sequential(projection, style.norm(out_channels))
        start_at_zero(self.bn3)

    def spatial(self, x: Tensor) -> Tensor:
        """The layer that tells the two blocks apart: (B, width, H, W) -> (B, width, H', W')."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, 4 * width, H', W')."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.spatial(out)))
        out = self.se(self.bn3(self.conv3(out)))
        return self.relu(self.drop_path(out) + shortcut)


class Bottleneck(ResidualBlock):
    """Figure 1, left: the spatial layer is a 3x3 convolution, and carries the stride.

    Args:
        dilation: of the 3x3 convolution.
        se_ratio: channels inside squeeze-and-excitation over the block's output (Hu et al. 2018); 0 leaves it out.
        others: see :class:`ResidualBlock`.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int = 1,
        style: Style = Style(),
        *,
        dilation: int = 1,
        se_ratio: float = 0.0,
    ) -> None:
        super().__init__(in_channels, width, stride, style)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=dilation, dilation=dilation, bias=False)
        if se_ratio:
            self.se = SqueezeExcitation(EXPANSION * width, max(1, round(EXPANSION * width * se_ratio)))

    def spatial(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> (B, width, H', W')."""
        return self.conv2(x)


class BoTBlock(ResidualBlock):
    """Figure 1, right: the spatial layer is global self-attention.

    Attention has no stride; a strided block pools 2x2 after it (paper, Section 3). The pooling rounds up and leaves
    the missing pixels of an odd edge out of its mean, so that it meets the strided shortcut at every size.

    Args:
        size: (H, W) of the input map that the position tables are made for.
        heads: attention heads.
        kind: what the logits are made of, one of :data:`~botvision.layers.mhsa.ATTENTION_KINDS`.
        others: see :class:`ResidualBlock`.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        size: tuple[int, int],
        heads: int = 4,
        stride: int = 1,
        kind: str = "qk+qr_relative",
        style: Style = Style(),
    ) -> None:
        super().__init__(in_channels, width, stride, style)
        self.mhsa = MHSA2d(width, size, heads, kind)
        self.pool = HalvingPool() if stride == 2 else nn.Identity()

    def spatial(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> (B, width, H', W')."""
        return self.pool(self.mhsa(x))


class HalvingPool(nn.Module):
    """2x2 average pooling with stride 2 that rounds up: of an odd edge it takes the mean of the pixels there are.

    It is ``nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False)``, but for how the output's size is worked out:
    by the formula of the strided 1x1 convolution in the shortcut, so that a compiled or exported program of unknown
    size can see that the two are equal.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, ceil(H / 2), ceil(W / 2))."""
        if not all(statically_known_true(side % 2 == 0) for side in x.shape[2:]):
            # The last row and column once more; beyond an even edge nothing reaches them. Not F.pad, whose gradient a
            # compiler takes for one in another memory layout than it has (PyTorch 2.15, mode "replicate").
            x = torch.cat([x, x[:, :, -1:]], dim=2)
            x = torch.cat([x, x[:, :, :, -1:]], dim=3)
        return F.avg_pool2d(x, 2)


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
        self.conv = nn.Conv2d(channels // 2, channels, kernel_size=1, bias=False)
        self.bn = norm(channels)
        start_at_zero(self.bn)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return x + self.bn(self.conv(self.mhsa(x)))


def start_at_zero(norm: nn.Module) -> None:
    """Let a residual branch start as nothing, if its normalisation learns: a frozen one would stay at nothing."""
    if isinstance(norm.weight, nn.Parameter):
        nn.init.zeros_(norm.weight)
