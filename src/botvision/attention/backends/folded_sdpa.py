"""The folded form: attention with a separable bias through ``scaled_dot_product_attention``, without a mask.

One-hot rows and columns, appended to the keys, turn the bias into a part of the dot product: attention of
[q, bias_height, bias_width] to [k, onehot(y), onehot(x)] is the same attention, and no (N, M) matrix is needed.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

WIDTH_STEP = 8
"""Head widths that the memory-efficient stock kernels of GPUs take are multiples of this."""


def folded_attention(q: Tensor, k: Tensor, v: Tensor, bias_height: Tensor, bias_width: Tensor, scale: float) -> Tensor:
    """:func:`~botvision.attention.reference.reference_attention` in O(N (d + H' + W')) memory.

    A bias of -inf counts as half of the lowest finite number: as a factor, -inf would make NaN of the zeros.
    """
    dtype = torch.promote_types(q.dtype, bias_height.dtype)  # half precision is rounded once, after the scale
    lowest = torch.finfo(q.dtype).min / 2
    biases = [bias.clamp(min=lowest).to(dtype) for bias in (bias_height, bias_width)]
    queries = torch.cat([q.to(dtype) * scale, *biases], dim=-1).to(q.dtype)
    height, width = (bias.shape[-1] for bias in biases)
    row = torch.eye(height, dtype=k.dtype, device=k.device).repeat_interleave(width, dim=0)
    column = torch.eye(width, dtype=k.dtype, device=k.device).repeat(height, 1)
    keys = torch.cat([k, torch.cat([row, column], dim=-1).expand(*k.shape[:2], -1, -1)], dim=-1)
    # The fast kernels want one width for all three. Zeros after queries and keys change no logit; those after the
    # values come out as zeros and are cut off.
    total = folded_width(q.shape[-1], height, width, v.shape[-1])
    queries, keys, values = (F.pad(tensor, (0, total - tensor.shape[-1])) for tensor in (queries, keys, v))
    return F.scaled_dot_product_attention(queries, keys, values, scale=1.0)[..., : v.shape[-1]]


def folded_width(head_width: int, height: int, width: int, value_width: int) -> int:
    """The width of head that the stock kernel gets for a key map of H' x W'."""
    # The sum is wide enough for any size of map, known or not, where the values are no wider than the queries.
    needed = head_width + height + width + max(0, value_width - head_width)
    return (needed + WIDTH_STEP - 1) // WIDTH_STEP * WIDTH_STEP
