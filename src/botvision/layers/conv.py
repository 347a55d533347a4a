"""The convolution of every block."""

from torch import nn


def convolution(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    """A convolution without bias that keeps the map size at stride 1, with He initialisation (He et al. 2015)."""
    padding = dilation * (kernel_size // 2)
    layer = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer
