"""The folded form: the same attention through a stock kernel, with memory linear in the number of positions.

The position term of a query depends on the key's row and column alone:

    logits[i, j] = q_i . k_j + lh[i, y_j] + lw[i, x_j]

With one-hot rows and columns appended to the keys that sum is one dot product, so that plain scaled-dot-product
attention on [q, lh, lw] and [k, onehot(y), onehot(x)] computes the layer and the (N, N) matrix never exists.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from botvision.attention.definition import position_logits


def folded_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rel_height: Tensor,
    rel_width: Tensor,
    size: tuple[int, int],
    scale: float,
) -> Tensor:
    """What :func:`~botvision.attention.definition.definition_attention` computes, in O(N (d + H + W)) memory.

    Arguments, shapes and the returned tensor are those of the definition.
    """
    height, width = size
    head_width = q.shape[-1]
    q = q * scale
    vertical, horizontal = position_logits(q, rel_height, rel_width, size)
    key_row = torch.eye(height, dtype=k.dtype, device=k.device).repeat_interleave(width, dim=0)
    key_column = torch.eye(width, dtype=k.dtype, device=k.device).repeat(height, 1)
    one_hot = torch.cat([key_row, key_column], dim=-1).expand(*k.shape[:2], -1, -1)
    folded_q = torch.cat([q, vertical, horizontal], dim=-1)
    folded_k = torch.cat([k, one_hot], dim=-1)
    # The stock kernels want values as wide as the keys; the padding comes out as zeros and is cut off.
    folded_v = F.pad(v, (0, height + width))
    return F.scaled_dot_product_attention(folded_q, folded_k, folded_v, scale=1.0)[..., :head_width]
