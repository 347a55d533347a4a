"""What an operator of PyTorch needs beside its results: derivatives of any order, ``torch.func`` and ``torch.vmap``."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

logger = logging.getLogger("botvision")

FOR_TORCH_FUNC: dict[Any, type[torch.autograd.Function]] = {}
"""By operator, the form of it that the gradient transforms of ``torch.func`` take."""
# PyTorch has no public name for the question. Without an answer the operator itself is called, which serves everything
# but the gradient transforms of torch.func.
in_torch_func: Callable[[], bool] = getattr(torch._C, "_are_functorch_transforms_active", lambda: False)


def call(op: Any, *arguments: Any) -> tuple[Tensor, ...]:  # noqa: ANN401
    """The operator's results, also inside a transform of ``torch.func``.

    Raises:
        NotImplementedError: an argument carries a forward-mode derivative, which the operator itself would drop.
    """
    if not torch.compiler.is_compiling() and (in_torch_func() or any(map(has_tangent, arguments))):
        return FOR_TORCH_FUNC[op].apply(*arguments)
    return op(*arguments)


def has_tangent(argument: Any) -> bool:  # noqa: ANN401
    """Whether it is a tensor that carries a forward-mode derivative."""
    return isinstance(argument, Tensor) and unpack_dual(argument).tangent is not None


def register(op: Any, save: Callable[..., None], differentiate: Callable[..., tuple[Any, ...]]) -> None:  # noqa: ANN401
    """Give an operator its gradient and its rule for ``torch.vmap``.

    Args:
        op: what ``torch.library.custom_op`` made, to be called by :func:`call`.
        save: the ``setup_context`` of a ``torch.autograd.Function``.
        differentiate: the ``backward`` of one.
    """
    op.register_autograd(differentiate, setup_context=save)
    op.register_vmap(one_call_each(op))
    FOR_TORCH_FUNC[op] = for_torch_func(op, save, differentiate)


def one_call_each(op: Callable[..., tuple[Tensor, ...]]) -> Callable[..., tuple[tuple[Tensor, ...], tuple[int, ...]]]:
    """The rule of an operator for ``torch.vmap``: one call after the other."""

    def rule(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:  # noqa: ANN401
        logger.debug("%s under vmap: %d calls, one after the other", op, info.batch_size)
        given = (
            argument.unbind(dim) if isinstance(dim, int) else [argument] * info.batch_size
            for argument, dim in zip(arguments, in_dims, strict=True)
        )
        results = [call(op, *one) for one in zip(*given, strict=True)]
        stacked = tuple(torch.stack(parts) for parts in zip(*results, strict=True))
        return stacked, (0,) * len(stacked)

    return rule


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


def gradients_of_gradients(
    function: Callable[..., Any],
    upstream: Sequence[Tensor],
    inputs: Sequence[Tensor],
    needed: Sequence[bool],
    grads: Sequence[Tensor],
) -> tuple[Tensor, ...]:
    """What flows back through the gradients of a function: exact, and differentiable again.

    Args:
        function: what the operator computes, in PyTorch's own operations.
        upstream: gradients of its results, from which those of the inputs were computed.
        inputs: its arguments.
        needed: for each input, whether its gradient was computed.
        grads: what flows back to each gradient; those of the others are not read.

    Returns:
        For every tensor of ``upstream`` and of ``inputs``.
    """

    def first(*tensors: Tensor) -> tuple[Tensor, ...]:
        of_results, given = tensors[: len(upstream)], tensors[len(upstream) :]
        found = torch.func.vjp(function, *given)[1](of_results if len(of_results) > 1 else of_results[0])
        return tuple(grad for grad, is_needed in zip(found, needed, strict=True) if is_needed)

    pull_back = torch.func.vjp(first, *upstream, *inputs)[1]
    return pull_back(tuple(grad for grad, is_needed in zip(grads, needed, strict=True) if is_needed))


def as_outputs(like: Tensor, grads: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
    """Gradients as an operator can return them: an empty tensor for None."""
    return tuple(like.new_empty(0) if grad is None else grad for grad in grads)
