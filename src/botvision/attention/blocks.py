"""Attention in blocks of queries: the processor's path, and the one that serves where nothing faster does.

For each head a block of queries meets all keys, so that its logits stay in cache and the softmax needs no second
pass. The backward pass computes the same block again instead of keeping it. Positions are added to the block as what
they are: one number a key row and one a key column.
"""

import logging
from collections.abc import Iterator
from itertools import product as pairs
from typing import NamedTuple

import torch
from torch import Tensor

from botvision.attention import products
from botvision.attention.definition import position_logits, position_logits_backward
from botvision.attention.products import product

logger = logging.getLogger("botvision")

BLOCK_LOGITS = 2**20
"""Logits at once: 4 MiB of float32."""
LEAST_QUERIES = 128
"""Queries at once however many keys there are: the products are slower with fewer."""


class Maps(NamedTuple):
    """What a call of the operator is about, beside its tensors."""

    queries: tuple[int, int]
    """(H, W)."""
    keys: tuple[int, int]
    """(H', W')."""
    scale: float


def blocked_attention(
    q: Tensor, k: Tensor | None, v: Tensor, rel_height: Tensor | None, rel_width: Tensor | None, maps: Maps
) -> Tensor:
    """What the definition computes, with the logits of one block of one head in memory at a time.

    Args:
        q, k, v, rel_height, rel_width: as :func:`~botvision.attention.definition.definition_attention` takes them;
            half precision is computed in float32.
        maps: sizes and scale.

    Returns:
        (B, heads, H*W, e), in the memory of (B, H*W, heads, e): the channels of a pixel lie side by side.
    """
    if products.ONEDNN is None and q.device.type == "cpu":
        logger.debug("attention in blocks without oneDNN, which this PyTorch lacks: products by torch.mm")
    out = empty_output(q, v)
    for b, n in pairs(range(q.shape[0]), range(q.shape[1])):
        head = Head(q, k, v, rel_height, rel_width, maps, (b, n))
        for block in head.blocks():
            out[b, n, block] = product(head.probabilities(block), head.v.T)
    return out


def blocked_backward(
    grad_out: Tensor,
    q: Tensor,
    k: Tensor | None,
    v: Tensor,
    rel_height: Tensor | None,
    rel_width: Tensor | None,
    out: Tensor,
    maps: Maps,
) -> list[Tensor | None]:
    """Gradients of :func:`blocked_attention`.

    Args:
        grad_out, out: (B, heads, H*W, e).
        q, k, v, rel_height, rel_width, maps: as they went in.

    Returns:
        Of q, k, v, rel_height and rel_width; None for those that are None.
    """
    grads = [None if tensor is None else empty_output(tensor, tensor) for tensor in (q, k, v)]
    tables = [None if table is None else torch.zeros_like(computed(table)) for table in (rel_height, rel_width)]
    for b, n in pairs(range(q.shape[0]), range(q.shape[1])):
        head = Head(q, k, v, rel_height, rel_width, maps, (b, n))
        of_head = head.backward(computed(grad_out[b, n]).contiguous(), computed(out[b, n]))
        for grad, part in zip(grads, of_head[:3], strict=True):
            if grad is not None and part is not None:
                grad[b, n] = part
        for total, part in zip(tables, of_head[3:], strict=True):
            if total is not None and part is not None:
                total += part
    return [*grads, *(None if total is None else total.to(q.dtype) for total in tables)]


class Head:
    """One head of one image, and what its blocks share.

    Args:
        q, k, v, rel_height, rel_width, maps: of the whole call.
        which: (image, head).
    """

    def __init__(
        self,
        q: Tensor,
        k: Tensor | None,
        v: Tensor,
        rel_height: Tensor | None,
        rel_width: Tensor | None,
        maps: Maps,
        which: tuple[int, int],
    ) -> None:
        self.maps = maps
        self.q = computed(q[which]).contiguous() * maps.scale
        self.k = None if k is None else computed(k[which]).contiguous()
        self.v = computed(v[which]).contiguous()
        self.tables = None
        if rel_height is not None and rel_width is not None:
            self.tables = (computed(rel_height), computed(rel_width))
            vertical, horizontal = position_logits(self.q[None, None], *self.tables, maps.queries, maps.keys)
            self.vertical, self.horizontal = vertical[0, 0], horizontal[0, 0]

    def blocks(self) -> Iterator[slice]:
        """The queries, a block at a time."""
        queries = max(LEAST_QUERIES, BLOCK_LOGITS // len(self.v))
        return (slice(start, start + queries) for start in range(0, len(self.q), queries))

    def probabilities(self, block: slice) -> Tensor:
        """The softmax over all keys for a block of queries: (block, M)."""
        rows = self.q[block]
        logits = rows.new_zeros(len(rows), len(self.v)) if self.k is None else product(rows, self.k)
        if self.tables:
            on_map = logits.unflatten(1, self.maps.keys)
            on_map += self.vertical[block, :, None]
            on_map += self.horizontal[block, None, :]
        return torch.softmax(logits, dim=-1, out=logits)

    def backward(self, grad_out: Tensor, out: Tensor) -> list[Tensor | None]:
        """Gradients of q, k, v, rel_height and rel_width from those of the output, (N, e)."""
        mean = (grad_out * out).sum(dim=-1, keepdim=True)  # of each query's gradient, under its probabilities
        grad_q = torch.zeros_like(self.q)
        # Sums over blocks are transposed: so both factors of every product are as the product wants them.
        grad_k = None if self.k is None else self.k.new_zeros(self.k.T.shape)
        grad_v = self.v.new_zeros(self.v.T.shape)
        if self.tables:
            grad_vertical, grad_horizontal = torch.empty_like(self.vertical), torch.empty_like(self.horizontal)
        for block in self.blocks():
            rows = grad_out[block]
            probabilities = self.probabilities(block)
            grad_v += product(rows.T.contiguous(), probabilities.T)
            grad_logits = product(rows, self.v).sub_(mean[block]).mul_(probabilities)
            if self.k is not None and grad_k is not None:
                grad_q[block] = product(grad_logits, self.k.T)
                grad_k += product(self.q[block].T.contiguous(), grad_logits.T)
            if self.tables:
                on_map = grad_logits.unflatten(1, self.maps.keys)
                torch.sum(on_map, dim=2, out=grad_vertical[block])
                torch.sum(on_map, dim=1, out=grad_horizontal[block])
        grad_tables: list[Tensor | None] = [None, None]
        if self.tables:
            lines = grad_vertical[None, None], grad_horizontal[None, None]
            by_position, *grad_tables = position_logits_backward(
                self.q[None, None], *self.tables, *lines, self.maps.queries, self.maps.keys
            )
            grad_q += by_position[0, 0]
        return [grad_q * self.maps.scale, None if grad_k is None else grad_k.T, grad_v.T, *grad_tables]


def computed(tensor: Tensor) -> Tensor:
    """The tensor in the precision that the blocks compute in: float64 stays, anything else is float32."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def empty_output(q: Tensor, v: Tensor) -> Tensor:
    """(B, heads, N, e) for q (B, heads, N, d) and v (..., e), in the memory of (B, N, heads, e)."""
    batch, heads, positions, _ = q.shape
    return q.new_empty(batch, positions, heads, v.shape[-1]).transpose(1, 2)
