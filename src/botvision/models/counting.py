"""Parameters and multiply-adds, counted as the paper counts them."""

import torch
from torch import Tensor, nn
from torch.func import functional_call


def count_parameters(model: nn.Module) -> int:
    """Number of learned values of a model, position tables and normalisation included."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_multiply_adds(model: nn.Module, height: int, width: int, channels: int = 3) -> int:
    """Multiply-adds of all convolutions and matrix products for one image; normalisation and activations left out.

    A layer with products outside of ``nn.Conv2d`` and ``nn.Linear`` counts them itself, by its method
    ``multiply_adds(height, width)`` (:mod:`botvision.layers.spatial`).

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
        elif hasattr(module, "multiply_adds"):
            total += module.multiply_adds(*output.shape[2:])  # type: ignore[operator]

    handles = [module.register_forward_hook(add) for module in model.modules()]
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
