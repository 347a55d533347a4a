"""Parameters and multiply-adds, counted as the paper counts them."""

import copy

import torch
from torch import Tensor, nn

from botvision.models.network import Network


def count_parameters(model: nn.Module) -> int:
    """Number of learned values of a model, position tables and normalisation included."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_multiply_adds(model: nn.Module, height: int, width: int, channels: int = 3) -> int:
    """Multiply-adds of all convolutions and matrix products for one image; normalisation and activations left out.

    A layer with products outside of ``nn.Conv2d`` and ``nn.Linear`` counts them itself, by its method
    ``multiply_adds(height, width)`` (:mod:`botvision.layers.spatial`).

    Args:
        model: takes images (1, channels, height, width). Nothing is computed: a copy is traced on the meta device.
        height, width: of the image, in pixels.
        channels: of the image.
    """
    total = 0

    def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            window = module.kernel_size[0] * module.kernel_size[1]
            total += output.numel() * window * module.in_channels // module.groups
        elif isinstance(module, nn.Linear):
            total += output.numel() * module.in_features
        elif hasattr(module, "multiply_adds"):
            total += module.multiply_adds(*inputs[0].shape[2:])  # type: ignore[operator]

    traced = copy.deepcopy(model).to("meta").eval()
    for module in traced.modules():
        module.register_forward_hook(add)
    with torch.no_grad():
        traced(torch.empty(1, channels, height, width, device="meta"))
    return total


def receptive_field(network: Network) -> int:
    """Pixels, in height and in width, that a cell sees by kernels alone, computed from their sizes and strides.

    It is that of the last map, or of the map in front of the first layer that relates all positions: one that says so
    (:mod:`botvision.layers.spatial`), or the global pooling of squeeze-and-excitation. Paths through the spatial layers
    are the longest ones; shortcuts see less. The cell (y, x) of a map of stride s is centred at the pixel
    (s * y, s * x).
    """
    side, stride = 1, 1
    for name, layer in network.named_modules():
        if getattr(layer, "relates_all_positions", False) or isinstance(layer, nn.AdaptiveAvgPool2d):
            break
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d) and "downsample" not in name:
            kernel, step, dilation = (
                value if isinstance(value, int) else value[0]
                for value in (layer.kernel_size, layer.stride, layer.dilation)
            )
            side += dilation * (kernel - 1) * stride
            stride *= step
    return side
