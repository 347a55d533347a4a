"""The primitive: attention with a separable bias."""

import torch
from torch import Tensor

from botvision.attention.backends.triton_launch import with_contiguous_vectors
from botvision.attention.checks import check_biases, check_tensors, factors, scale_or_default
from botvision.attention.choose import BACKENDS, choose_backend
from botvision.attention.custom_op import fused_attention
from botvision.attention.pooling import MEMBERS, by_cells, halve_answers
from botvision.symbolic import is_exporting


def biased_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias_height: Tensor,
    bias_width: Tensor,
    *,
    scale: float | None = None,
) -> Tensor:
    """Attention to the keys of a map, with a bias for each key row and one for each key column.

    ``softmax(scale * q k^T + bias_height[i, y_j] + bias_width[i, x_j]) v`` for query i and the key j at row y_j and
    column x_j. ViTDet, SAM and MViTv2 call such biases decomposed relative positions. Exact at every size; large maps
    are computed without the ``(N, H'*W')`` matrix, forward and backward. Takes part in autograd (all five tensors;
    second derivatives have the whole matrix), autocast, the reverse mode of ``torch.func``, ``torch.compile`` and
    ``torch.export``. The same input gives the same bits.

    Args:
        q: (B, heads, N, d), queries of any map, any strides; float64, float32, float16 or bfloat16.
        k: ``(B, heads, H'*W', d)``, keys of an H' x W' map in row-major order.
        v: ``(B, heads, H'*W', e)``.
        bias_height: (B, heads, N, H'), not multiplied by the scale; B and heads may be 1. q's dtype, or float32 beside
            half precision. -inf masks the key row; a query whose keys are all masked gets zeros and has no gradient.
        bias_width: (B, heads, N, W'), likewise for columns.
        scale: multiplies q k^T; d ** -0.5 by default.

    Returns:
        (B, heads, N, e).

    Raises:
        UserError: (a ValueError) shapes, dtypes or devices that do not belong together; the message names the
            argument, what it has and what it should have.
    """
    q, k, v = factors(q=q, k=k, v=v)
    check_tensors(q, k, v)
    check_biases(q, k, bias_height, bias_width)
    is_masked = (bias_height == -torch.inf).all(dim=-1) | (bias_width == -torch.inf).all(dim=-1)
    is_masked = is_masked.unsqueeze(-1)
    bias_height = bias_height.expand(*q.shape[:3], -1).masked_fill(is_masked, 0)
    bias_width = bias_width.expand(*q.shape[:3], -1).masked_fill(is_masked, 0)
    return attend(q, k, v, bias_height, bias_width, scale_or_default(scale, q)).masked_fill(is_masked, 0)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias_height: Tensor,
    bias_width: Tensor,
    scale: float,
    pooled: tuple[int, int] | None = None,
) -> Tensor:
    """:func:`~botvision.attention.reference.reference_attention` by the backend that is chosen or asked for.

    No query may have all its keys masked.

    Args:
        pooled: (H, W), the map of the queries, whose answers come out in the means of 2x2 cells; None leaves them.
    """
    name = choose_backend(q, v, (bias_height.shape[-1], bias_width.shape[-1]))
    if name == "triton":
        q, k, v = map(with_contiguous_vectors, (q, k, v))  # once for both passes
    if pooled is None:
        return BACKENDS[name](q, k, v, bias_height, bias_width, scale)
    if name == "blocks" and not is_exporting():  # formats of files do not know of cells
        q, bias_height, bias_width = (by_cells(x, pooled) for x in (q, bias_height, bias_width))
        return fused_attention(q, k, v, bias_height, bias_width, scale, "blocks", members=MEMBERS)
    return halve_answers(BACKENDS[name](q, k, v, bias_height, bias_width, scale), pooled)
