"""Matrix products of float32 on a processor, by the faster of the two libraries that PyTorch brings.

``torch.matmul`` takes MKL, which on AMD processors leaves half of each vector register unused; oneDNN, which PyTorch
takes for convolutions, uses all of it. Measured on 2 cores of an AMD EPYC with AVX-512 (torch 2.15): products of the
size of a block of attention take 0.40 to 0.55 of MKL's time, and those below :data:`LARGE` more.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

LARGE = 128 * 128 * 128
"""Multiply-adds from which oneDNN's set-up for each call is worth it."""

# The product that PyTorch's own compiler emits for linear layers on a processor; no public name leads to it for dense
# float32 tensors. A build without it falls back to torch.matmul.
ONEDNN = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None


def product(a: Tensor, b: Tensor) -> Tensor:
    """a b^T, for each entry of the leading axes.

    Args:
        a: (..., M, K), contiguous.
        b: (..., N, K), contiguous, or the transposed view of a contiguous tensor: any other strides are slow.

    Returns:
        (..., M, N), contiguous.
    """
    rows, inner = a.shape[-2:]
    columns = b.shape[-2]
    if ONEDNN is not None and a.numel() == rows * inner and prefers_onednn(a, rows * inner * columns):
        out = ONEDNN(a.view(rows, inner), b.reshape(columns, inner), None, "none", [], "")
        return out.view(*a.shape[:-1], columns)
    return a @ b.transpose(-2, -1)


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """x weight^T, differentiable: (..., K) and (N, K) -> (..., N).

    Of oneDNN's operators for dense float32 tensors, PyTorch can differentiate only convolutions. A 1x1 convolution in
    channels-last memory is this product: the rows of x are the pixels of one image.
    """
    rows = x.numel() // max(1, x.shape[-1])
    # A compiler must see the product: it chooses a library by itself, and formats of files have an operator for it.
    if torch.compiler.is_compiling() or not prefers_onednn(x, rows * weight.numel()):
        return F.linear(x, weight)
    image = x.reshape(1, rows, 1, -1).permute(0, 3, 1, 2)
    return F.conv2d(image, weight[:, :, None, None]).permute(0, 2, 3, 1).view(*x.shape[:-1], -1)


def prefers_onednn(like: Tensor, multiply_adds: int) -> bool:
    """Whether oneDNN is the faster library for one product of this size; it knows no batches."""
    is_float32_on_cpu = like.device.type == "cpu" and like.dtype == torch.float32
    # The last is the user's switch.
    return is_float32_on_cpu and ONEDNN is not None and multiply_adds >= LARGE and bool(torch.backends.mkldnn.enabled)
