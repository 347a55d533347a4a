"""The operator as PyTorch knows it: ``torch.ops.botvision.attention``, with its gradients, batching and shapes.

To ``torch.compile`` and ``torch.export`` it is one node whatever the sizes are. Which code computes it is decided
when it runs: the Triton kernel where it serves, blocks anywhere else.
"""

import logging
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from botvision.attention import gpu
from botvision.attention.blocks import Maps, blocked_attention, blocked_backward, empty_output
from botvision.attention.definition import definition_attention
from botvision.attention.kernel import kernel_serves

logger = logging.getLogger("botvision")

INPUTS = 5
"""q, k, v, rel_height and rel_width come first among the arguments."""


@torch.library.custom_op("botvision::attention", mutates_args=())
def attention(
    q: Tensor,
    k: Tensor | None,
    v: Tensor,
    rel_height: Tensor | None,
    rel_width: Tensor | None,
    size: list[int],
    key_size: list[int],
    scale: float,
) -> tuple[Tensor, Tensor]:
    """What the definition computes, and the logarithms that a kernel's backward pass goes by.

    Args:
        q, k, v, rel_height, rel_width, scale: as
            :func:`~botvision.attention.definition.definition_attention` takes them.
        size, key_size: (H, W) and (H', W'), which the tables fit exactly.

    Returns:
        (B, heads, H*W, e), and the logarithm of the sum in each softmax, (B, heads, H*W) in float32; blocks do without
        it and leave it 0.
    """
    maps = Maps((size[0], size[1]), (key_size[0], key_size[1]), scale)
    with as_given(q):
        if k is not None and rel_height is not None and rel_width is not None and kernel_serves(q, v):
            return gpu.forward(q, k, v, rel_height, rel_width, maps)
        if q.device.type != "cpu":
            logger.debug("attention on %s in blocks: the Triton kernel does not serve %s", q.device, q.dtype)
        return blocked_attention(q, k, v, rel_height, rel_width, maps), logarithms(q)


@attention.register_fake
def _(q: Tensor, k: Any, v: Tensor, *_: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401
    return empty_output(q, v), logarithms(q)


def as_given(q: Tensor) -> torch.autocast:
    """A context without autocast, which would round the products inside once more."""
    return torch.autocast(q.device.type, enabled=False)


def logarithms(q: Tensor) -> Tensor:
    """What the second result is made of."""
    return q.new_zeros(q.shape[:3], dtype=torch.float32)


@torch.library.custom_op("botvision::attention_backward", mutates_args=())
def attention_backward(
    grad_out: Tensor,
    q: Tensor,
    k: Tensor | None,
    v: Tensor,
    rel_height: Tensor | None,
    rel_width: Tensor | None,
    out: Tensor,
    log_sum: Tensor,
    size: list[int],
    key_size: list[int],
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of :func:`attention`: of q, k, v, rel_height and rel_width; nothing, as a tensor, of what is None."""
    maps = Maps((size[0], size[1]), (key_size[0], key_size[1]), scale)
    with as_given(q):
        if k is not None and rel_height is not None and rel_width is not None and kernel_serves(q, v):
            return gpu.backward(grad_out, q, k, v, rel_height, rel_width, out, log_sum, maps)
        grads = blocked_backward(grad_out, q, k, v, rel_height, rel_width, out, maps)
    of_q, of_k, of_v, of_height, of_width = (q.new_empty(0) if grad is None else grad for grad in grads)
    return of_q, of_k, of_v, of_height, of_width


@attention_backward.register_fake
def _(grad_out: Tensor, *inputs: Any) -> tuple[Tensor, ...]:  # noqa: ANN401
    q, k, v, *tables = inputs[:INPUTS]
    nothing = q.new_empty(0)
    of_vectors = [nothing if tensor is None else empty_output(tensor, tensor) for tensor in (q, k, v)]
    return *of_vectors, *(nothing if table is None else torch.empty_like(table) for table in tables)


def keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:  # noqa: ANN401
    """Keep what the backward pass needs: what went in, what came out, and no matrix."""
    ctx.save_for_backward(*inputs[:INPUTS], *output)
    ctx.rest = inputs[INPUTS:]
    ctx.mark_non_differentiable(output[1])


def backward(ctx: Any, grad_out: Tensor, _: Any) -> tuple[Any, ...]:  # noqa: ANN401
    """The backward pass, itself an operator, so that it can be differentiated again."""
    *inputs, out, log_sum = ctx.saved_tensors
    grads = attention_backward(grad_out, *inputs, out, log_sum, *ctx.rest)
    return *in_place_of(inputs, grads), None, None, None


def keep_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:  # noqa: ANN401
    """Keep what a second derivative needs."""
    ctx.save_for_backward(*inputs[: 1 + INPUTS])
    ctx.rest = inputs[-3:]


def double_backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:  # noqa: ANN401
    """Gradients of :func:`attention_backward`, through the definition: exact, with the whole matrix in memory.

    They can be differentiated again, as often as wanted.
    """
    size, key_size, scale = ctx.rest
    grad_out, *inputs = ctx.saved_tensors
    there = [index for index, tensor in enumerate(inputs) if tensor is not None]
    logger.debug("second derivatives of attention: computed by the definition, with its whole matrix")

    def forward(*given: Tensor) -> Tensor:
        whole: Any = dict(zip(there, given, strict=True))
        q, k, v, rel_height, rel_width = (whole.get(index) for index in range(INPUTS))
        return definition_attention(q, k, v, rel_height, rel_width, size, scale, key_size)

    def first(grad_out: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
        return torch.func.vjp(forward, *given)[1](grad_out)

    with as_given(grad_out):
        pull_back = torch.func.vjp(first, grad_out, *(inputs[index] for index in there))[1]
        of_out, *second = pull_back(tuple(grads[index] for index in there))
    of_inputs = dict(zip(there, second, strict=True))
    return of_out, *(of_inputs.get(index) for index in range(INPUTS)), None, None, None, None, None


def in_place_of(inputs: list[Tensor | None], grads: tuple[Tensor, ...]) -> list[Tensor | None]:
    """Gradients, None in place of those of what is None."""
    return [None if tensor is None else grad for tensor, grad in zip(inputs, grads, strict=True)]


# For exported programs, in which the operators stand by themselves.
attention.register_autograd(backward, setup_context=keep)
attention_backward.register_autograd(double_backward, setup_context=keep_backward)


class Attention(torch.autograd.Function):
    """The operator with all that ``torch.func`` asks for, which what is registered for it above lacks."""

    setup_context = staticmethod(keep)

    @staticmethod
    def forward(*arguments: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        """:func:`attention`."""
        return attention(*arguments)

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor, _: Any) -> tuple[Any, ...]:  # noqa: ANN401
        """The backward pass, itself differentiable."""
        *inputs, out, log_sum = ctx.saved_tensors
        grads = AttentionBackward.apply(grad_out, *inputs, out, log_sum, *ctx.rest)
        return *in_place_of(inputs, grads), None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:  # noqa: ANN401
        """One call after the other."""
        return one_by_one(Attention, info.batch_size, in_dims, arguments)


class AttentionBackward(torch.autograd.Function):
    """The backward operator, likewise."""

    setup_context = staticmethod(keep_backward)
    backward = staticmethod(double_backward)

    @staticmethod
    def forward(*arguments: Any) -> tuple[Tensor, ...]:  # noqa: ANN401
        """:func:`attention_backward`."""
        return attention_backward(*arguments)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:  # noqa: ANN401
        """One call after the other."""
        return one_by_one(AttentionBackward, info.batch_size, in_dims, arguments)


def one_by_one(
    function: type[torch.autograd.Function],
    count: int,
    in_dims: tuple[Any, ...],
    arguments: tuple[Any, ...],
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """The calls that ``vmap`` makes one of: each may have tables, and gradients, of its own."""
    logger.debug("attention under vmap: %d calls, one after the other", count)
    calls = [
        [
            argument.select(dim, index) if isinstance(dim, int) else argument
            for argument, dim in zip(arguments, in_dims, strict=True)
        ]
        for index in range(count)
    ]
    results = zip(*(function.apply(*call) for call in calls), strict=True)
    stacked = tuple(torch.stack(parts) for parts in results)
    return stacked, (0,) * len(stacked)


Shape = tuple[int, ...]


@register_flop_formula([torch.ops.botvision.attention])
def count_flops(
    q: Shape,
    k: Shape | None,
    v: Shape,
    rel_height: Shape | None,
    *rest: Any,  # noqa: ANN401
    out_shape: object = None,
) -> int:
    """Floating-point operations of the forward pass, from shapes: both products, and the positions' own."""
    batch, heads, queries, width = q
    key_size = rest[2]
    terms = (width * v[2] if k else 0) + (width * sum(key_size) if rel_height else 0) + v[2] * v[3]
    return 2 * batch * heads * queries * terms


@register_flop_formula([torch.ops.botvision.attention_backward])
def count_backward_flops(grad_out: Shape, *shapes: Any, out_shape: object = None) -> int:  # noqa: ANN401
    """Of the backward pass: every product twice, without what is computed again."""
    inputs, maps = shapes[:INPUTS], shapes[INPUTS + 2 :]
    return 2 * count_flops(*inputs, *maps)
