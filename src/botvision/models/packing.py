"""Convolutions for inference on a processor, with weights kept in the layout that oneDNN computes in.

PyTorch gives oneDNN the weights as they are, and oneDNN copies them into a layout of its own at every call. For one
image of 224 pixels that copy takes a third of the time of a ResNet. The two operators here are those that PyTorch's
compiler emits for networks with constant weights; they have no public name, and without them nothing is kept. Nor is it
on other processors than x86, where nothing was measured.
"""

import platform
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.forward_ad import unpack_dual

REORDER = getattr(torch.ops.mkldnn, "_reorder_convolution_weight", None)
CONVOLVE = getattr(torch.ops.mkldnn, "_convolution_pointwise", None)
IS_X86 = platform.machine() in ("x86_64", "AMD64")
HAS_OPERATORS = IS_X86 and torch.backends.mkldnn.is_available() and REORDER is not None and CONVOLVE is not None
HAS_BFLOAT16 = HAS_OPERATORS and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class PackedConv2d(nn.Conv2d):
    """``nn.Conv2d`` for inference, which keeps its weights in oneDNN's layout for the shape of the last input.

    With another shape the weights are packed again, which takes as long as oneDNN's own copy: a layout that was made
    for another shape is slow, and may round otherwise. Inputs that need a gradient, other devices, and what is
    compiled, traced or exported are convolved as by ``nn.Conv2d``. The weights may be changed in place, but not through
    ``weight.data``, which PyTorch does not count as a change.
    """

    packed: tuple[Any, Tensor | None, Tensor | None] = (None, None, None)
    """What the last input and the weights were (:meth:`key`), the weights packed for it, and those they were made of.

    The last are kept so that no other weights can take their place in memory, and with it their address in the key.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        if not self.can_pack(x):
            return super().forward(x)
        how = self.padding, self.stride, self.dilation, self.groups
        key, (last, weight, _) = self.key(x), self.packed
        if key != last:
            weight = REORDER(self.weight, *how, x.shape)  # type: ignore[misc]
            self.packed = (key, weight, self.weight.detach())
        x = x.contiguous(memory_format=torch.channels_last)
        return CONVOLVE(x, weight, self.bias, *how, "none", [], "")  # type: ignore[misc]

    def can_pack(self, x: Tensor) -> bool:
        """Whether oneDNN's operators compute what ``nn.Conv2d`` would, and nothing else must see the convolution."""
        return (
            type(x) is Tensor
            and x.dtype == self.weight.dtype
            and x.device.type == self.weight.device.type == "cpu"
            and (x.dtype == torch.float32 or (x.dtype == torch.bfloat16 and HAS_BFLOAT16))
            and x.ndim == 4
            and HAS_OPERATORS
            and bool(torch.backends.mkldnn.enabled)  # the user's switch
            and not torch.is_autocast_enabled("cpu")
            and not (torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad))
            and not is_observed(x)
            and x.numel() > 0
        )

    def key(self, x: Tensor) -> Any:  # noqa: ANN401 (compared with another one, no more)
        """Two keys are equal where the same packed weights are right for both."""
        version = 0 if self.weight.is_inference() else self.weight._version
        return x.shape, self.weight.data_ptr(), version

    def __getstate__(self) -> dict[str, Any]:
        """Without the packed weights: copies and files make their own."""
        return {name: value for name, value in self.__dict__.items() if name != "packed"}


def is_observed(x: Tensor) -> bool:
    """Whether a tracer, a transform of ``torch.func``, forward-mode differentiation or a mode that sees every operator,
    such as a counter of operations, is at work: they know the convolution, and not oneDNN's operators."""
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or torch._C._functorch.is_functorch_wrapped_tensor(x)
        or unpack_dual(x).tangent is not None
        or torch._C._len_torch_dispatch_stack() > 0
    )


def pack_convolutions(model: nn.Module) -> None:
    """Make each plain convolution inside a model a :class:`PackedConv2d`, in place, with the weights that it has."""
    for module in model.modules():
        if is_plain_convolution(module) and module.padding_mode == "zeros" and not isinstance(module.padding, str):
            module.__class__ = PackedConv2d  # with its hooks and its mode


def is_plain_convolution(module: nn.Module) -> bool:
    """Whether a module is ``nn.Conv2d`` itself, with plain weights, not pruned or parametrised ones."""
    return type(module) is nn.Conv2d and "weight" in dict(module.named_parameters(recurse=False))
