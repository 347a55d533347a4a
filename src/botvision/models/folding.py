"""A copy of a model for inference: batch norm folded into the convolution in front of it, weights kept packed."""

import copy
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.ops import FrozenBatchNorm2d

from botvision.models.packing import is_plain_convolution, pack_convolutions

Model = TypeVar("Model", bound=nn.Module)


NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm, FrozenBatchNorm2d)
"""What is folded; not their subclasses, which may compute something else."""


def fold(model: Model) -> Model:
    """A copy of a model for inference, with every batch norm behind a convolution folded into it.

    In test mode batch norm multiplies and shifts each channel by fixed numbers, which weights and bias can do. Outputs
    stay the same but for rounding; the copy needs less time. It works on networks, classifiers and detectors of ours,
    and on the ``nn.Sequential`` parts of any model. Other norms stay, and batch norms with something between them and
    the convolution in front, such as attention. On a processor, convolutions keep a second copy of their weights in
    oneDNN's layout for the shape of the last images (:class:`~botvision.models.packing.PackedConv2d`).

    Args:
        model: is not changed; its weights may be trained or not.

    Returns:
        The copy in test mode and channels-last memory, whose weights ask for no gradients. It cannot be trained, and
        takes no state dict of the model.
    """
    folded = copy.deepcopy(model).eval().requires_grad_(False)
    for module in list(folded.modules()):
        for layer, norm in pairs(module):
            if can_fold(module.get_submodule(layer), module.get_submodule(norm)):
                fold_pair(module.get_submodule(layer), module.get_submodule(norm))
                module.set_submodule(norm, nn.Identity())
    pack_convolutions(folded)
    return folded.to(memory_format=torch.channels_last)


def pairs(module: nn.Module) -> Iterator[tuple[str, str]]:
    """Names of layers inside a module, each with that of the module that alone takes its output.

    In an ``nn.Sequential`` they follow each other. Other modules say so by a method ``norm_pairs()``.
    """
    if isinstance(module, nn.Sequential):
        yield from pairwise(name for name, _ in module.named_children())
    elif hasattr(module, "norm_pairs"):
        yield from module.norm_pairs()  # type: ignore[operator]


def can_fold(layer: nn.Module, norm: nn.Module) -> bool:
    """Whether a layer is a plain convolution, and a norm has fixed statistics."""
    return is_plain_convolution(layer) and type(norm) in NORMS and norm.running_mean is not None


def fold_pair(layer: Any, norm: Any) -> None:  # noqa: ANN401 (a convolution, and one of NORMS)
    """Give a layer the weights and the bias of itself and its norm."""
    layer.weight, layer.bias = fuse_conv_bn_weights(
        layer.weight, layer.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
