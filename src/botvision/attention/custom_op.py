"""Attention as an operator of PyTorch, ``torch.ops.botvision.attention``, for backends that PyTorch cannot trace.

To ``torch.compile`` and ``torch.export`` it is one node whatever the sizes are. Its backward pass is an operator too,
so that it can be differentiated again: second derivatives go by the reference and its whole matrix.
"""

import logging
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from botvision.attention.backends import query_blocks
from botvision.attention.backends.query_blocks import empty_gradients, empty_output
from botvision.attention.backends.triton_launch import triton_backward, triton_forward
from botvision.attention.operator_rules import as_outputs, call, gradients_of_gradients, register
from botvision.attention.positions import without_autocast
from botvision.attention.reference import reference_attention

logger = logging.getLogger("botvision")

TENSORS = 5
"""q, k, v, bias_height and bias_width: the arguments that have gradients."""


def fused_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias_height: Tensor,
    bias_width: Tensor,
    scale: float,
    backend: str,
    members: int = 1,
) -> Tensor:
    """:func:`~botvision.attention.reference.reference_attention` by the backend "blocks" or "triton".

    The biases may be float32 where the rest is of half precision. Only the blocks know of cells with several members.
    """
    return call(attention, q, k, v, bias_height, bias_width, scale, backend, members)[0]


@torch.library.custom_op("botvision::attention", mutates_args=())
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias_height: Tensor,
    bias_width: Tensor,
    scale: float,
    backend: str,
    members: int,
) -> tuple[Tensor, Tensor]:
    """The attended values (B, heads, N / members, e), and the log-sum-exp of each query, (B, heads, N) in float32.

    The blocks do not need the second result and leave it 0. Arguments as :func:`fused_attention` takes them.
    """
    with without_autocast(q):
        if backend == "triton":
            return triton_forward(q, k, v, bias_height, bias_width, scale)
        out = query_blocks.forward(q, k, v, bias_height, bias_width, scale, members)
        return out, empty_log_sum(q).zero_()


@attention.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401
    return empty_output(q, v, members=rest[-1]), empty_log_sum(q)


@torch.library.custom_op("botvision::attention_backward", mutates_args=())
def attention_backward(
    grad_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias_height: Tensor,
    bias_width: Tensor,
    out: Tensor,
    log_sum: Tensor,
    scale: float,
    backend: str,
    members: int,
    needed: list[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the five tensors of :func:`attention`; an empty tensor for each that is not needed."""
    inputs = (q, k, v, bias_height, bias_width)
    with without_autocast(q):
        if backend == "triton":
            grads = triton_backward(grad_out, inputs, out, log_sum, scale, needed)
        else:
            grads = query_blocks.backward(grad_out, inputs, scale, members, needed)
    of_q, of_k, of_v, of_height, of_width = as_outputs(q, grads)
    return of_q, of_k, of_v, of_height, of_width


@attention_backward.register_fake
def _(grad_out: Tensor, *inputs: Any) -> tuple[Tensor, ...]:  # noqa: ANN401
    return as_outputs(grad_out, empty_gradients(inputs[:TENSORS], inputs[-1]))


def empty_log_sum(q: Tensor) -> Tensor:
    """(B, heads, N) in float32."""
    return q.new_empty(q.shape[:3], dtype=torch.float32)


def save_forward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:  # noqa: ANN401
    """Save what went in and what came out, and no matrix."""
    ctx.save_for_backward(*inputs[:TENSORS], *output)
    ctx.scale, ctx.backend, ctx.members = inputs[TENSORS:]
    ctx.mark_non_differentiable(output[1])


def backward(ctx: Any, grad_out: Tensor, _: Any) -> tuple[Any, ...]:  # noqa: ANN401
    """The gradients that are asked for."""
    needed = list(ctx.needs_input_grad[:TENSORS])
    grads = call(attention_backward, grad_out, *ctx.saved_tensors, ctx.scale, ctx.backend, ctx.members, needed)
    return *(grad if is_needed else None for grad, is_needed in zip(grads, needed, strict=True)), None, None, None


def save_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:  # noqa: ANN401
    """Save what a second derivative needs."""
    ctx.save_for_backward(*inputs[: 1 + TENSORS])
    ctx.scale, _, ctx.members, ctx.needed = inputs[-4:]


def second_backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:  # noqa: ANN401
    """Gradients of :func:`attention_backward` by the reference: exact, differentiable again, with the whole matrix."""
    logger.debug("second derivatives of attention: computed by the reference, with its whole matrix")
    grad_out, *inputs = ctx.saved_tensors
    reference = partial(reference_attention, scale=ctx.scale, members=ctx.members)
    with without_autocast(grad_out):
        second = gradients_of_gradients(reference, [grad_out], inputs, ctx.needed, grads)
    return *second, None, None, None, None, None, None


register(attention, save_forward, backward)
register(attention_backward, save_backward, second_backward)

Shape = tuple[int, ...]


@register_flop_formula([torch.ops.botvision.attention])
def count_flops(q: Shape, k: Shape, v: Shape, *rest: Any, out_shape: object = None) -> int:  # noqa: ANN401
    """Floating-point operations of both products, from shapes; those of the biases are counted where they are made.

    It counts the definition, whatever the backend saves where answers are pooled.
    """
    batch, heads, queries, width = q
    return 2 * batch * heads * queries * v[2] * (width + v[3])


@register_flop_formula([torch.ops.botvision.attention_backward])
def count_backward_flops(grad_out: Shape, q: Shape, k: Shape, v: Shape, *rest: Any, out_shape: object = None) -> int:  # noqa: ANN401
    """Of the backward pass: every product twice, without what is computed again."""
    return 2 * count_flops(q, k, v)
