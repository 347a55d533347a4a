"""Attention as an operator of PyTorch, ``torch.ops.botvision.attention``, for backends that PyTorch cannot trace.

To ``torch.compile`` and ``torch.export`` it is one node whatever the sizes are. Its backward pass is an operator too,
so that it can be differentiated again: second derivatives go by the reference and its whole matrix.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from botvision.attention.backends import query_blocks
from botvision.attention.backends.query_blocks import empty_gradients, empty_output
from botvision.attention.backends.triton_launch import triton_backward, triton_forward
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
            return as_outputs(q, triton_backward(grad_out, inputs, out, log_sum, scale, needed))
        return as_outputs(q, query_blocks.backward(grad_out, inputs, scale, members, needed))


@attention_backward.register_fake
def _(grad_out: Tensor, *inputs: Any) -> tuple[Tensor, ...]:  # noqa: ANN401
    return as_outputs(grad_out, empty_gradients(inputs[:TENSORS], inputs[-1]))


def as_outputs(like: Tensor, grads: list[Tensor | None]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients as an operator can return them: an empty tensor for None."""
    of_q, of_k, of_v, of_height, of_width = (like.new_empty(0) if grad is None else grad for grad in grads)
    return of_q, of_k, of_v, of_height, of_width


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

    def first(grad_out: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        reference = partial(reference_attention, scale=ctx.scale, members=ctx.members)
        found = torch.func.vjp(reference, *inputs)[1](grad_out)
        return tuple(grad for grad, is_needed in zip(found, ctx.needed, strict=True) if is_needed)

    with without_autocast(grad_out):
        pull_back = torch.func.vjp(first, grad_out, *inputs)[1]
        second = pull_back(tuple(grad for grad, is_needed in zip(grads, ctx.needed, strict=True) if is_needed))
    return *second, None, None, None, None, None, None


def one_call_each(op: Callable[..., tuple[Tensor, ...]]) -> Callable[..., tuple[tuple[Tensor, ...], tuple[int, ...]]]:
    """The rule of an operator for ``torch.vmap``: one call after the other."""

    def rule(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:  # noqa: ANN401
        logger.debug("attention under vmap: %d calls, one after the other", info.batch_size)
        given = (
            argument.unbind(dim) if isinstance(dim, int) else [argument] * info.batch_size
            for argument, dim in zip(arguments, in_dims, strict=True)
        )
        results = [call(op, *one) for one in zip(*given, strict=True)]
        stacked = tuple(torch.stack(parts) for parts in zip(*results, strict=True))
        return stacked, (0,) * len(stacked)

    return rule


attention.register_autograd(backward, setup_context=save_forward)
attention_backward.register_autograd(second_backward, setup_context=save_backward)
attention.register_vmap(one_call_each(attention))
attention_backward.register_vmap(one_call_each(attention_backward))


def for_torch_func(op: Any, save: Any, differentiate: Any) -> type[torch.autograd.Function]:  # noqa: ANN401
    """The operator in the only form that the gradient transforms of ``torch.func`` take.

    They refuse what ``register_autograd`` makes (pytorch/pytorch issues 168393, 170834 and 179652), as it has no
    ``setup_context``. Everything else calls the operator itself.
    """

    class ForTorchFunc(torch.autograd.Function):
        forward = staticmethod(lambda *arguments: op(*arguments))
        setup_context = staticmethod(save)
        backward = staticmethod(differentiate)
        vmap = staticmethod(one_call_each(op))

    return ForTorchFunc


FOR_TORCH_FUNC = {
    attention: for_torch_func(attention, save_forward, backward),
    attention_backward: for_torch_func(attention_backward, save_backward, second_backward),
}
# PyTorch has no public name for the question. Without an answer the operator itself is called, which serves everything
# but the gradient transforms of torch.func.
in_torch_func: Callable[[], bool] = getattr(torch._C, "_are_functorch_transforms_active", lambda: False)


def call(op: Any, *arguments: Any) -> tuple[Tensor, ...]:  # noqa: ANN401
    """The operator's results, also inside a transform of ``torch.func``."""
    if not torch.compiler.is_compiling() and in_torch_func():
        return FOR_TORCH_FUNC[op].apply(*arguments)
    return op(*arguments)


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
