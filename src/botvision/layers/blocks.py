"""The two blocks of the paper's Figure 1: the ResNet bottleneck and the Bottleneck Transformer (BoT) block.

They differ in one place, the layer between the two 1x1 convolutions. Names of their parts are torchvision's, so that
its state dicts load as they are.
"""

from torch import Tensor, nn

from botvision.layers.mhsa import MHSA2d

EXPANSION = 4
"""Output channels of a block over its inner width (He et al. 2016)."""


class Bottleneck(nn.Module):
    """Figure 1, left: 1x1 reduce, 3x3, 1x1 expand, each with BN, and a shortcut. The 3x3 carries the stride.

    Args:
        in_channels: channels of the input.
        width: channels of the 3x3 convolution; the output has 4 x width.
        stride: 1 or 2.

    Shape:
        input (B, in_channels, H, W), output (B, 4 * width, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, EXPANSION * width, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(EXPANSION * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = projection_shortcut(in_channels, EXPANSION * width, stride)
        nn.init.zeros_(self.bn3.weight)  # each block starts as its shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, 4 * width, H', W')."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu(out + shortcut)


class BoTBlock(nn.Module):
    """Figure 1, right: the bottleneck with global self-attention in place of its 3x3 convolution.

    Attention has no stride; a strided block pools 2x2 after it (paper, Section 3). The pooling rounds up and leaves
    the missing pixels of an odd edge out of its mean, so that it meets the strided shortcut at every size.

    Args:
        in_channels: channels of the input.
        width: channels of the attention; the output has 4 x width.
        size: (H, W) of the input map that the relative tables are made for.
        heads: attention heads.
        stride: 1 or 2.

    Shape:
        input (B, in_channels, H, W), output (B, 4 * width, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(self, in_channels: int, width: int, size: tuple[int, int], heads: int = 4, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.mhsa = MHSA2d(width, size, heads)
        self.pool = nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False) if stride == 2 else nn.Identity()
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, EXPANSION * width, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(EXPANSION * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = projection_shortcut(in_channels, EXPANSION * width, stride)
        nn.init.zeros_(self.bn3.weight)  # each block starts as its shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, 4 * width, H', W')."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.pool(self.mhsa(out))))
        out = self.bn3(self.conv3(out))
        return self.relu(out + shortcut)


def projection_shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    """The shortcut of a block that changes the shape (1x1 convolution and BN), or None where x itself fits."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False),
        nn.BatchNorm2d(out_channels),
    )
