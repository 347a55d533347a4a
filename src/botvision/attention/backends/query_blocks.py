"""Attention in blocks of queries: the backend of processors, and of every device that no faster one serves.

A block of queries meets all keys, so that its logits stay in cache and the softmax needs no second pass. The backward
pass computes the block again instead of keeping it. Broadcasting adds the bias to a block: one number for each key row
and one for each key column.

The mean of the answers to several queries, the ``members`` of a cell, is the product of their mean probabilities with
v. So where answers are pooled, that product and its gradients take a quarter of the multiply-adds (``pooling.py``).
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
LEAST_CELLS = 128
"""Cells of queries in one block however many keys there are: the products are slower with fewer."""
BATCHED = 4
"""How many times larger a product must be for oneDNN, one head at a time, to be faster than a batched product."""


def forward(
    q: Tensor, k: Tensor, v: Tensor, bias_height: Tensor, bias_width: Tensor, scale: float, members: int = 1
) -> Tensor:
    """:func:`~botvision.attention.reference.reference_attention` with the logits of one block in memory at a time.

    Takes any strides, and computes half precision in float32.
    """
    if cpu_products.ONEDNN is None and q.device.type == "cpu":
        logger.debug("attention in blocks without oneDNN, which this PyTorch lacks: products by torch.matmul")
    out = empty_output(q, v, members)
    for some in groups(q, k):
        group = Group([x[some] for x in (q, k, v, bias_height, bias_width)], scale, members)
        for cells in group.blocks():
            out[some][:, :, cells] = group.attended(cells)
    return out


def backward(
    grad_out: Tensor, inputs: Sequence[Tensor], scale: float, members: int, needed: Sequence[bool]
) -> list[Tensor | None]:
    """Gradients of :func:`forward`.

    Args:
        grad_out: (B, heads, N / members, e), gradient of what came out; any strides.
        inputs: q, k, v, bias_height and bias_width, as they went in.
        scale, members: as they went in.
        needed: for each of the five tensors, whether its gradient is asked for.

    Returns:
        Of q, k, v, bias_height and bias_width, in their dtypes; None for those that are not needed.
    """
    q, k = inputs[:2]
    grads = empty_gradients(inputs, needed)
    for some in groups(q, k):
        group = Group([x[some] for x in inputs], scale, members)
        group.backward(grad_out[some], [None if grad is None else grad[some] for grad in grads])
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
        members: of a cell, the queries whose answers are averaged.
    """

    def __init__(self, inputs: Sequence[Tensor], scale: float, members: int) -> None:
        q, k, v, bias_height, bias_width = inputs
        self.dtype = torch.promote_types(q.dtype, torch.float32)
        self.scale, self.members = scale, members
        q, k, v = (x.to(self.dtype) for x in (q, k, v))
        v = v / members if members > 1 else v  # the mean of a cell is its sum of probabilities times this
        # Multiplying makes a slice of one head contiguous, so that it is not copied a second time.
        self.q, self.k, self.v = self.in_cells((q * scale).contiguous()), k.contiguous(), v.contiguous()
        self.bias_height, self.bias_width = self.in_cells(bias_height), self.in_cells(bias_width)
        self.keys = (bias_height.shape[-1], bias_width.shape[-1])

    def in_cells(self, x: Tensor) -> Tensor:
        """(images, heads, queries, n) -> (images, heads, members, cells, n)."""
        return x.unflatten(2, (self.members, -1))

    def blocks(self) -> Iterator[slice]:
        """The cells, a block at a time."""
        images, heads, members, cells, _ = self.q.shape
        at_once = max(LEAST_CELLS, BLOCK_LOGITS // max(1, images * heads * members * self.v.shape[2]))
        return (slice(start, start + at_once) for start in range(0, cells, at_once))

    def probabilities(self, cells: slice) -> Tensor:
        """The softmax over all keys for a block of cells: (images, heads, members, block, M)."""
        logits = self.in_cells(product(self.q[:, :, :, cells].flatten(2, 3), self.k))
        on_map = logits.unflatten(-1, self.keys)
        on_map += self.bias_height[:, :, :, cells, :, None]
        on_map += self.bias_width[:, :, :, cells, None, :]
        return torch.softmax(logits, dim=-1, out=logits)

    def attended(self, cells: slice) -> Tensor:
        """What a block of cells gets: (images, heads, block, e)."""
        return product(of_cells(self.probabilities(cells)), self.v.transpose(-2, -1))

    def backward(self, grad_out: Tensor, grads: list[Tensor | None]) -> None:
        """Write the gradients of the group into ``grads``: of q, k, v, bias_height and bias_width, where not None."""
        of_q, of_k, of_v, of_height, of_width = grads
        grad_out = grad_out.to(self.dtype).contiguous()
        # Sums over blocks are transposed: so both factors of every product are as the product wants them.
        sum_k, sum_v = (x.new_zeros(x.mT.shape) for x in (self.k, self.v))
        for cells in self.blocks():
            upstream = grad_out[:, :, cells]
            probabilities = self.probabilities(cells)
            if of_v is not None:
                sum_v += product(upstream.transpose(-2, -1).contiguous(), of_cells(probabilities).transpose(-2, -1))
            if of_q is of_k is of_height is of_width is None:
                continue
            of_logits = through_softmax(product(upstream, self.v), probabilities)
            flat = of_logits.flatten(2, 3)
            if of_q is not None:
                found = product(flat, self.k.transpose(-2, -1)).mul_(self.scale)
                self.in_cells(of_q)[:, :, :, cells] = self.in_cells(found)
            if of_k is not None:
                queries = self.q[:, :, :, cells].flatten(2, 3)
                sum_k += product(queries.transpose(-2, -1).contiguous(), flat.transpose(-2, -1))
            on_map = of_logits.unflatten(-1, self.keys)
            for grad, axis in ((of_height, -1), (of_width, -2)):
                if grad is not None:
                    self.in_cells(grad)[:, :, :, cells] = on_map.sum(dim=axis)
        for grad, total in ((of_k, sum_k), (of_v, sum_v.div_(self.members))):
            if grad is not None:
                grad.copy_(total.transpose(-2, -1))


def through_softmax(of_cells: Tensor, probabilities: Tensor) -> Tensor:
    """The gradient of logits, p (dp - sum of p dp), in the place of the probabilities.

    Args:
        of_cells: (images, heads, block, M), dp, of every member of a cell alike.
        probabilities: (images, heads, members, block, M).
    """
    for own in probabilities.unbind(2):
        # In place a row is read before it is written; fresh memory for each block would cost as much as a product.
        # PyTorch (2.11 to 2.14) writes wrong numbers into strided memory.
        if own.is_cpu and own.is_contiguous():
            torch._softmax_backward_data(of_cells, own, -1, own.dtype, grad_input=own)
        else:
            own.copy_(torch._softmax_backward_data(of_cells, own, -1, own.dtype))
    return probabilities


def of_cells(probabilities: Tensor) -> Tensor:
    """(images, heads, members, block, M) -> the sums over members."""
    return probabilities.squeeze(2) if probabilities.shape[2] == 1 else probabilities.sum(dim=2)


def empty_output(q: Tensor, v: Tensor, members: int = 1) -> Tensor:
    """(B, heads, N / members, e) for q (B, heads, N, d) and v (..., e): in memory the channels of a pixel lie side by
    side."""
    batch, heads, positions, _ = q.shape
    return q.new_empty(batch, positions // members, heads, v.shape[-1]).transpose(1, 2)


def empty_gradients(inputs: Sequence[Tensor], needed: Sequence[bool]) -> list[Tensor | None]:
    """Memory for the gradients of q, k, v (as :func:`empty_output` lays it out), bias_height and bias_width; None for
    those that are not needed."""
    grads: list[Tensor | None] = [None] * len(inputs)
    for index, tensor in enumerate(inputs):
        if needed[index]:
            grads[index] = empty_output(tensor, tensor) if index < 3 else tensor.new_empty(tensor.shape)
    return grads
