"""The GPU's path: position logits by PyTorch, all that grows with the matrix of logits in Triton programs.

The position logits of an image, (heads, H*W, H' + W'), are wider than its queries where the map is larger than they
are. They are computed for a few images at a time, and again in the backward pass, so that memory stays linear in H*W.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from botvision.attention.blocks import Maps, empty_output
from botvision.attention.definition import position_logits, position_logits_backward
from botvision.attention.kernel import kernel_backward, kernel_forward

WORKSPACE = 2**26
"""Position logits at once, of float32 (256 MiB): 32 images with 4 heads on a 64x64 map, enough to fill a card, and at
least one image whatever its size."""


def forward(
    q: Tensor, k: Tensor, v: Tensor, rel_height: Tensor, rel_width: Tensor, maps: Maps
) -> tuple[Tensor, Tensor]:
    """What the definition computes.

    Args:
        q, k, v, rel_height, rel_width: as :func:`~botvision.attention.definition.definition_attention` takes them.
        maps: sizes and scale.

    Returns:
        (B, heads, H*W, e), and the logarithm of the sum in each softmax, (B, heads, H*W) in float32.
    """
    out, log_sum = empty_output(q, v), torch.empty(q.shape[:3], dtype=torch.float32, device=q.device)
    for some in parts(q, maps):
        lines = position_logits(scaled(q[some], maps), rel_height.float(), rel_width.float(), maps.queries, maps.keys)
        out[some], log_sum[some] = kernel_forward(q[some], k[some], v[some], *lines, maps.scale)
    return out, log_sum


def backward(
    grad_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rel_height: Tensor,
    rel_width: Tensor,
    out: Tensor,
    log_sum: Tensor,
    maps: Maps,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v, rel_height and rel_width.

    Args:
        grad_out: (B, heads, H*W, e).
        q, k, v, rel_height, rel_width, maps: as they went into :func:`forward`.
        out, log_sum: what it gave.
    """
    grads = [empty_output(tensor, tensor) for tensor in (q, k, v)]
    tables = rel_height.float(), rel_width.float()
    table_sums = [torch.zeros_like(table) for table in tables]
    for some in parts(q, maps):
        queries = scaled(q[some], maps)
        lines = position_logits(queries, *tables, maps.queries, maps.keys)
        inputs = (q[some], k[some], v[some], *lines)
        by_content, *keys_and_values, vertical, horizontal = kernel_backward(
            grad_out[some], *inputs, out[some], log_sum[some], maps.scale
        )
        by_position, *of_tables = position_logits_backward(
            queries, *tables, vertical, horizontal, maps.queries, maps.keys
        )
        for grad, part in zip(grads, (by_content + by_position * maps.scale, *keys_and_values), strict=True):
            grad[some] = part
        for total, part in zip(table_sums, of_tables, strict=True):
            total += part
    of_q, of_k, of_v = grads
    of_height, of_width = (total.to(q.dtype) for total in table_sums)
    return of_q, of_k, of_v, of_height, of_width


def parts(q: Tensor, maps: Maps) -> Iterator[slice]:
    """The batch, as many images at a time as the workspace holds."""
    of_one = q.shape[1] * q.shape[2] * sum(maps.keys)
    images = max(1, WORKSPACE // max(1, of_one))
    return (slice(start, start + images) for start in range(0, q.shape[0], images))


def scaled(q: Tensor, maps: Maps) -> Tensor:
    """Queries as the position logits take them; in float32, because rounded logits would be rounded probabilities."""
    return q.float() * maps.scale
