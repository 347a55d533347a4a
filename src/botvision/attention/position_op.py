"""Relative positions as an operator of PyTorch, ``torch.ops.botvision.relative_biases``.

For the Triton programs, which PyTorch cannot trace; and for its own operations where a compiler would put the autocast
of the forward pass around the backward pass, too, and so round factors that autocast is kept from here.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from botvision.attention.backends import triton_positions
from botvision.attention.backends.query_blocks import empty_output
from botvision.attention.operator_rules import as_outputs, call, gradients_of_gradients, register
from botvision.attention.positions import relative_biases, without_autocast

TENSORS = 3
"""q, rel_height and rel_width: the arguments that have gradients."""


def fused_biases(
    q: Tensor, rel_height: Tensor, rel_width: Tensor, size: Sequence[int], scale: float, backend: str
) -> tuple[Tensor, Tensor]:
    """:func:`~botvision.attention.positions.relative_biases`, by "triton" or "pytorch"; the tables tell H' and W'."""
    height, width = call(biases, q, rel_height, rel_width, list(size), scale, backend)
    return height, width


@torch.library.custom_op("botvision::relative_biases", mutates_args=())
def biases(
    q: Tensor, rel_height: Tensor, rel_width: Tensor, size: Sequence[int], scale: float, backend: str
) -> tuple[Tensor, Tensor]:
    """bias_height (B, heads, H*W, H') and bias_width (B, heads, H*W, W'), in float32 or float64, contiguous."""
    if backend == "triton":
        return triton_positions.position_biases(q, rel_height, rel_width, size, scale)
    height, width = by_pytorch(size, scale)(q, rel_height, rel_width)
    return height.contiguous(), width.contiguous()


@biases.register_fake
def _(
    q: Tensor, rel_height: Tensor, rel_width: Tensor, size: Sequence[int], scale: float, backend: str
) -> tuple[Tensor, Tensor]:
    height, width = triton_positions.key_size(rel_height, rel_width, size)
    like = q.new_empty(q.shape[:3], dtype=torch.promote_types(q.dtype, torch.float32))
    return like.new_empty((*q.shape[:3], height)), like.new_empty((*q.shape[:3], width))


def by_pytorch(size: Sequence[int], scale: float) -> Callable[..., tuple[Tensor, Tensor]]:
    """The biases of a map of queries, in PyTorch's own operations, as a function of q and the tables."""

    def compute(q: Tensor, rel_height: Tensor, rel_width: Tensor) -> tuple[Tensor, Tensor]:
        keys = triton_positions.key_size(rel_height, rel_width, size)
        return relative_biases(q, rel_height, rel_width, size, keys, scale)

    return compute


@torch.library.custom_op("botvision::relative_biases_backward", mutates_args=())
def biases_backward(
    grad_height: Tensor,
    grad_width: Tensor,
    q: Tensor,
    rel_height: Tensor,
    rel_width: Tensor,
    size: Sequence[int],
    scale: float,
    needed: list[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the three tensors of :func:`biases` by Triton; an empty tensor for each that is not needed."""
    grads = triton_positions.position_gradients(
        (grad_height, grad_width), q, (rel_height, rel_width), size, scale, needed
    )
    of_q, of_height, of_width = as_outputs(q, grads)
    return of_q, of_height, of_width


@biases_backward.register_fake
def _(grad_height: Tensor, grad_width: Tensor, q: Tensor, *rest: Any) -> tuple[Tensor, ...]:  # noqa: ANN401
    like = empty_output(q, q), *(table.new_empty(table.shape) for table in rest[:2])
    return as_outputs(q, [x if is_needed else None for x, is_needed in zip(like, rest[-1], strict=True)])


def save_forward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:  # noqa: ANN401
    """Save what went in."""
    ctx.save_for_backward(*inputs[:TENSORS])
    ctx.size, ctx.scale, ctx.backend = inputs[TENSORS:]


def backward(ctx: Any, grad_height: Tensor, grad_width: Tensor) -> tuple[Any, ...]:  # noqa: ANN401
    """The gradients that are asked for."""
    needed = list(ctx.needs_input_grad[:TENSORS])
    if ctx.backend == "triton":
        grads = call(biases_backward, grad_height, grad_width, *ctx.saved_tensors, ctx.size, ctx.scale, needed)
    else:
        with without_autocast(grad_height):
            grads = torch.func.vjp(by_pytorch(ctx.size, ctx.scale), *ctx.saved_tensors)[1]((grad_height, grad_width))
    return *(grad if is_needed else None for grad, is_needed in zip(grads, needed, strict=True)), None, None, None


def save_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:  # noqa: ANN401
    """Save what a second derivative needs."""
    ctx.save_for_backward(*inputs[: 2 + TENSORS])
    ctx.size, ctx.scale, ctx.needed = inputs[-3:]


def second_backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:  # noqa: ANN401
    """Gradients of :func:`biases_backward`, in PyTorch's own operations."""
    grad_height, grad_width, q, rel_height, rel_width = ctx.saved_tensors
    compute = by_pytorch(ctx.size, ctx.scale)
    with without_autocast(grad_height):
        upstream, inputs = [grad_height, grad_width], [q, rel_height, rel_width]
        second = gradients_of_gradients(compute, upstream, inputs, ctx.needed, grads)
    return *second, None, None, None


register(biases, save_forward, backward)
register(biases_backward, save_backward, second_backward)

Shape = tuple[int, ...]


@register_flop_formula([torch.ops.botvision.relative_biases])
def count_flops(q: Shape, rel_height: Shape, rel_width: Shape, *rest: Any, out_shape: object = None) -> int:  # noqa: ANN401
    """Floating-point operations, from shapes: every query times every vector of both tables."""
    batch, heads, queries, width = q
    return 2 * batch * heads * queries * width * (rel_height[0] + rel_width[0])


@register_flop_formula([torch.ops.botvision.relative_biases_backward])
def count_backward_flops(grad_height: Shape, grad_width: Shape, *tensors: Any, out_shape: object = None) -> int:  # noqa: ANN401
    """Of the backward pass: every product twice."""
    return 2 * count_flops(*tensors)
