"""Parameters and multiply-adds, counted as the paper counts them."""

import torch
from torch import Tensor, nn

from botvision.layers import MHSA2d


def count_parameters(model: nn.Module) -> int:
    """Learned numbers of a model, relative tables and normalisation included."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_multiply_adds(model: nn.Module, height: int, width: int) -> int:
    """Multiply-adds of all convolutions and matrix products for one image; normalisation and activations left out.

    The positions count as q times the full (2H - 1) + (2W - 1) tables, as the paper's 102.98 G for BoTNet-50 at 1024
    (Table 1) does.

    Args:
        model: takes images (1, 3, height, width). Nothing is computed: it is traced on the meta device.
        height, width: of the image, in pixels.
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
            _, channels, rows, columns = output.shape
            positions = rows * columns
            # q k^T and attention times v, then q times the tables; its projections are a Conv2d of their own.
            total += positions * channels * (2 * positions + (2 * rows - 1) + (2 * columns - 1))

    counted = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear | MHSA2d)]
    handles = [module.register_forward_hook(add) for module in counted]
    was_training = model.training
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, height, width, device="meta"))
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return total
