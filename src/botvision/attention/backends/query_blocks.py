"""Attention in blocks of queries: the backend of processors, and of every device that no faster one serves.

A block of queries meets all keys, so that its logits stay in cache and the softmax needs no second pass. The backward
pass computes the block again instead of keeping it. Broadcasting adds the bias to a block: one number for each key row
and one for each key column.
"""

import logging
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from botvision.attention.backends import cpu_products
from botvision.attention.backends.cpu_products import prefers_onednn, product

logger = logging.getLogger("botvision")

BLOCK_LOGITS = 2**20
"""Logits in one block: 4 MiB of float32."""
LEAST_QUERIES = 128
"""Queries in one block however many keys there are: the products are slower with fewer."""
BATCHED = 4
"""How many times larger a product must be for oneDNN, one head at a time, to be faster than a batched product."""


def forward(q: Tensor, k: Tensor, v: Tensor, bias_height: Tensor, bias_width: Tensor, scale: float) -> Tensor:
    """:func:`~botvision.attention.reference.reference_attention` with the logits of one block in memory at a time.

    Takes any strides, and computes half precision in float32.
    """
    if cpu_products.ONEDNN is None and q.device.type == "cpu":
        logger.debug("attention in blocks without oneDNN, which this PyTorch lacks: products by torch.matmul")
    out = empty_output(q, v)
    for some in groups(q, k):
        group = Group([x[some] for x in (q, k, v, bias_height, bias_width)], scale)
        for rows in group.blocks():
            out[some][:, :, rows] = product(group.probabilities(rows), group.v.transpose(-2, -1))
    return out


def backward(
    grad_out: Tensor, inputs: Sequence[Tensor], out: Tensor, log_sum: Tensor, scale: float, needed: Sequence[bool]
) -> list[Tensor | None]:
    """Gradients of :func:`forward`.

    Args:
        grad_out: (B, heads, N, e), gradient of what came out; any strides.
        inputs: q, k, v, bias_height and bias_width, as they went in.
        out: what came out.
        log_sum: of each query's logits; the blocks do not need it, Triton does.
        scale: as it went in.
        needed: for each of the five tensors, whether its gradient is asked for.

    Returns:
        Of q, k, v, bias_height and bias_width, in their dtypes; None for those that are not needed.
    """
    q, k = inputs[:2]
    grads = empty_gradients(inputs, needed)
    for some in groups(q, k):
        group = Group([x[some] for x in inputs], scale)
        group.backward(grad_out[some], out[some], [None if grad is None else grad[some] for grad in grads])
    return grads


def groups(q: Tensor, k: Tensor) -> Iterator[tuple[slice, slice]]:
    """(images, heads) whose logits are computed together.

    One head at a time where oneDNN multiplies, which knows no batches; else as many images as fill a block.
    """
    images, heads, queries, width = q.shape
    logits = queries * k.shape[2]
    like = q.new_empty(0, dtype=torch.promote_types(q.dtype, torch.float32))
    if heads * logits > BLOCK_LOGITS or prefers_onednn(like, logits * width // BATCHED):
        at_once = (1, 1)
    else:
        at_once = (max(1, BLOCK_LOGITS // max(1, heads * logits)), heads)
    for image in range(0, images, at_once[0]):
        for head in range(0, heads, at_once[1]):
            yield slice(image, image + at_once[0]), slice(head, head + at_once[1])


class Group:
    """The heads of some images, in the precision that blocks compute in.

    Args:
        inputs: q, k, v, bias_height, bias_width, each (images, heads, ...), views of the whole call's tensors.
        scale: multiplies q k^T.
    """

    def __init__(self, inputs: Sequence[Tensor], scale: float) -> None:
        q, k, v, self.bias_height, self.bias_width = inputs
        self.dtype = torch.promote_types(q.dtype, torch.float32)
        self.scale = scale
        self.q = q.to(self.dtype).contiguous() * scale
        self.k = k.to(self.dtype).contiguous()
        self.v = v.to(self.dtype).contiguous()
        self.keys = (self.bias_height.shape[-1], self.bias_width.shape[-1])

    def blocks(self) -> Iterator[slice]:
        """The queries, a block at a time."""
        images, heads, queries, _ = self.q.shape
        at_once = max(LEAST_QUERIES, BLOCK_LOGITS // max(1, images * heads * self.v.shape[2]))
        return (slice(start, start + at_once) for start in range(0, queries, at_once))

    def probabilities(self, rows: slice) -> Tensor:
        """The softmax over all keys for a block of queries: (images, heads, block, M)."""
        logits = product(self.q[:, :, rows], self.k)
        on_map = logits.unflatten(-1, self.keys)
        on_map += self.bias_height[:, :, rows, :, None]
        on_map += self.bias_width[:, :, rows, None, :]
        return torch.softmax(logits, dim=-1, out=logits)

    def backward(self, grad_out: Tensor, out: Tensor, grads: list[Tensor | None]) -> None:
        """Write the gradients of the group into ``grads``: of q, k, v, bias_height and bias_width, where not None."""
        of_q, of_k, of_v, of_height, of_width = grads
        grad_out, out = grad_out.to(self.dtype).contiguous(), out.to(self.dtype)
        mean = (grad_out * out).sum(dim=-1, keepdim=True)  # of each query's gradient, under its probabilities
        # Sums over blocks are transposed: so both factors of every product are as the product wants them.
        sum_k, sum_v = (torch.zeros_like(x.transpose(-2, -1).contiguous()) for x in (self.k, self.v))
        for rows in self.blocks():
            upstream = grad_out[:, :, rows]
            probabilities = self.probabilities(rows)
            if of_v is not None:
                sum_v += product(upstream.transpose(-2, -1).contiguous(), probabilities.transpose(-2, -1))
            if of_q is of_k is of_height is of_width is None:
                continue
            grad_logits = product(upstream, self.v).sub_(mean[:, :, rows]).mul_(probabilities)
            if of_q is not None:
                of_q[:, :, rows] = product(grad_logits, self.k.transpose(-2, -1)).mul_(self.scale)
            if of_k is not None:
                sum_k += product(self.q[:, :, rows].transpose(-2, -1).contiguous(), grad_logits.transpose(-2, -1))
            on_map = grad_logits.unflatten(-1, self.keys)
            if of_height is not None:
                of_height[:, :, rows] = on_map.sum(dim=-1)
            if of_width is not None:
                of_width[:, :, rows] = on_map.sum(dim=-2)
        for grad, total in ((of_k, sum_k), (of_v, sum_v)):
            if grad is not None:
                grad.copy_(total.transpose(-2, -1))


def empty_output(q: Tensor, v: Tensor) -> Tensor:
    """(B, heads, N, e) for q (B, heads, N, d) and v (..., e): in memory the channels of a pixel lie side by side."""
    batch, heads, positions, _ = q.shape
    return q.new_empty(batch, positions, heads, v.shape[-1]).transpose(1, 2)


def empty_gradients(inputs: Sequence[Tensor], needed: Sequence[bool]) -> list[Tensor | None]:
    """Memory for the gradients of q, k, v (as :func:`empty_output` lays it out), bias_height and bias_width; None for
    those that are not needed."""
    grads: list[Tensor | None] = [None] * len(inputs)
    for index, tensor in enumerate(inputs):
        if needed[index]:
            grads[index] = empty_output(tensor, tensor) if index < 3 else tensor.new_empty(tensor.shape)
    return grads
