"""Matrix products of float32 on a processor, by the faster of the two libraries that PyTorch brings.

``torch.mm`` takes MKL, which on AMD processors leaves half of each vector register unused; oneDNN, which PyTorch takes
for convolutions, uses all of it. Measured on 2 cores of an AMD EPYC with AVX-512 (torch 2.15): products of the size of
a block of attention take 0.40 to 0.55 of MKL's time, and those below :data:`LARGE` more.
"""

import torch
from torch import Tensor

LARGE = 128 * 128 * 128
"""Multiply-adds from which oneDNN's set-up for each call is worth it."""

# The product that PyTorch's own compiler emits for linear layers on a processor; no public name leads to it for dense
# float32 tensors. A build without it falls back to torch.mm.
ONEDNN = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None


def product(a: Tensor, b: Tensor) -> Tensor:
    """a b^T.

    Args:
        a: (M, K), contiguous.
        b: (N, K), contiguous, or the transposed view of a contiguous tensor: any other strides are slow.

    Returns:
        (M, N), contiguous.
    """
    is_large = a.shape[0] * a.shape[1] * b.shape[0] >= LARGE
    is_single = a.device.type == "cpu" and a.dtype == torch.float32
    if ONEDNN is not None and is_single and is_large and torch.backends.mkldnn.enabled:  # the last is the user's switch
        return ONEDNN(a, b, None, "none", [], "")
    return a @ b.T
