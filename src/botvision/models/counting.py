"""Parameters and multiply-adds, counted as the paper counts them."""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from botvision.layers import MHSA2d


def count_parameters(model: nn.Module) -> int:
    """Learned numbers of a model, position tables and normalisation included."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_multiply_adds(model: nn.Module, height: int, width: int, channels: int = 3) -> int:
    """Multiply-adds of all convolutions and matrix products for one image; normalisation and activations left out.

    The positions count as q times the full (2H - 1) + (2W - 1) tables, as the paper's 102.98 G for BoTNet-50 at 1024
    (Table 1) does.

    Args:
        model: takes images (1, channels, height, width). Nothing is computed: it is traced on the meta device.
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
        elif isinstance(module, MHSA2d):
            total += attention_multiply_adds(module, *output.shape[2:])

    counted = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear | MHSA2d)]
    handles = [module.register_forward_hook(add) for module in counted]
    was_training = model.training
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    shapes = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
    try:
        with torch.no_grad():
            functional_call(model.eval(), shapes, torch.empty(1, channels, height, width, device="meta"))
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return total


def attention_multiply_adds(layer: MHSA2d, rows: int, columns: int) -> int:
    """Products of one attention layer on a map, without its projections (a convolution of their own)."""
    positions = rows * columns
    queries = layer.heads * layer.head_width
    content = 0 if layer.kind == "qr_relative" else positions
    vectors = {"qk": 0, "qk+qr_absolute": rows + columns}.get(layer.kind, 2 * rows - 1 + 2 * columns - 1)
    return positions * (queries * (content + vectors) + layer.widths[-1] * positions)
