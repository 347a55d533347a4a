"""The folded form: the same attention through a stock kernel, without the (N, M) matrix.

The position term of a query depends on the key's row and column alone:

    logits[i, j] = q_i . k_j + lh[i, y_j] + lw[i, x_j]

With one-hot rows and columns appended to the keys that sum is one dot product, so that plain scaled-dot-product
attention on [q, lh, lw] and [k, onehot(y), onehot(x)] computes the layer and the (N, M) matrix never exists.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true

from botvision.attention.definition import position_logits

WIDTH_STEP = 8
"""Head widths that the memory-efficient stock kernels of GPUs take are multiples of this."""


def folded_attention(
    q: Tensor,
    k: Tensor | None,
    v: Tensor,
    rel_height: Tensor,
    rel_width: Tensor,
    size: Sequence[int],
    scale: float,
    key_size: Sequence[int] | None = None,
) -> Tensor:
    """What :func:`~botvision.attention.definition.definition_attention` computes, in O(N (d + H + W)) memory.

    Arguments, shapes and the returned tensor are those of the definition; the positions are never left out.
    """
    key_size = key_size or size
    kind = torch.promote_types(q.dtype, torch.float32)  # half precision is rounded once, after the products
    scaled = q.to(kind) * scale
    position = position_logits(scaled, rel_height.to(kind), rel_width.to(kind), size, key_size)
    one_hot = one_hot_positions(v, key_size)
    if k is None:
        return unscaled_attention(torch.cat(position, dim=-1).to(q.dtype), one_hot, v)
    return unscaled_attention(torch.cat([scaled, *position], dim=-1).to(q.dtype), torch.cat([k, one_hot], dim=-1), v)


def folded_width(head_width: int, key_size: Sequence[int], value_width: int) -> int:
    """The head width that the stock kernel gets; of a content term that is left out the head width is 0."""
    width = head_width + sum(key_size)
    if not statically_known_true(value_width <= width):  # enough for any size of map, known or not
        width += value_width
    return (width + WIDTH_STEP - 1) // WIDTH_STEP * WIDTH_STEP


def one_hot_positions(like: Tensor, size: Sequence[int]) -> Tensor:
    """(B, heads, H*W, H + W): each position's row and its column, one-hot, for the batch and heads of ``like``."""
    height, width = size
    row = torch.eye(height, dtype=like.dtype, device=like.device).repeat_interleave(width, dim=0)
    column = torch.eye(width, dtype=like.dtype, device=like.device).repeat(height, 1)
    return torch.cat([row, column], dim=-1).expand(*like.shape[:2], -1, -1)


def unscaled_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T) v by a stock kernel, for values (B, heads, M, e) as wide as the keys or not.

    The fast kernels want one width for all three. Zeros appended to queries and keys change no logit; those appended
    to the values come out as zeros and are cut off.
    """
    width = folded_width(q.shape[-1], (), v.shape[-1])
    q, k, padded = (F.pad(tensor, (0, width - tensor.shape[-1])) for tensor in (q, k, v))
    return F.scaled_dot_product_attention(q, k, padded, scale=1.0)[..., : v.shape[-1]]
