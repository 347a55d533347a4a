"""Which backend computes attention: one function chooses, and :func:`backend` overrides it."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from botvision.attention.backends.folded_sdpa import folded_attention, folded_width
from botvision.attention.backends.triton_launch import triton_serves
from botvision.attention.custom_op import fused_attention
from botvision.attention.reference import reference_attention
from botvision.errors import UserError
from botvision.symbolic import always_true

logger = logging.getLogger("botvision")

BACKENDS: dict[str, Callable[..., Tensor]] = {
    "reference": reference_attention,
    "blocks": partial(fused_attention, backend="blocks"),
    "triton": partial(fused_attention, backend="triton"),
    "folded": folded_attention,
}
"""By name; each takes q, k, v, bias_height, bias_width and scale."""

SMALL = 20 * 20
"""Positions of a map below which a processor takes the reference. Forward + backward, float32, heads of 128, on one
core: blocks need 0.9 of its time at 16x16 and 20x20 and 0.6 at 24x24, on two cores 1.8 at 14x14 and 0.6 at 32x32."""
STOCK_WIDTH = 256
"""Head width up to which the fast stock kernels of a GPU go."""

forced: str | None = None
"""The backend that :func:`backend` asks for."""


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Compute attention by one backend inside the context, in every thread of the process.

    Args:
        name: "reference", "blocks", "triton" or "folded".

    Raises:
        UserError: an unknown name; or, from the call of attention, a backend that cannot compute what it is given.
    """
    global forced
    if name not in BACKENDS:
        raise UserError(f"backend: there is no {name!r}, the backends are {', '.join(BACKENDS)}")
    before, forced = forced, name
    try:
        yield
    finally:
        forced = before


def choose_backend(q: Tensor, v: Tensor, key_size: tuple[int, int]) -> str:
    """The name of the backend for q (B, heads, N, d), v ``(B, heads, H'*W', e)`` and keys on a map of (H', W').

    Sizes that a compiled or exported program leaves open count as large.

    Raises:
        UserError: :func:`backend` asks for one that cannot serve them.
    """
    if forced is not None:
        if forced == "triton" and not triton_serves(q, v):
            raise UserError(
                f"backend: triton cannot compute {heads(q, v)}; it needs an NVIDIA card from A100 on, Triton, queries "
                "and values of at most 128, and float32, float16 or bfloat16"
            )
        return forced
    if q.device.type == "cpu":
        # In half precision the reference would round after every product; blocks compute in float32.
        is_half = q.dtype in (torch.float16, torch.bfloat16)
        return "reference" if not is_half and always_true(q.shape[-2] * v.shape[-2] < SMALL * SMALL) else "blocks"
    if triton_serves(q, v):
        return "triton"
    width = folded_width(q.shape[-1], *key_size, v.shape[-1])
    # Stock kernels for float64 and for wide heads have the whole matrix.
    name = "folded" if q.dtype != torch.float64 and always_true(width <= STOCK_WIDTH) else "blocks"
    if not torch.compiler.is_compiling():  # a log line would cut the graph in two
        logger.debug("attention by the backend %s: Triton does not serve %s", name, heads(q, v))
    return name


def heads(q: Tensor, v: Tensor) -> str:
    """What decides whether Triton serves them, in words."""
    return f"{q.dtype} heads with queries of {q.shape[-1]} and values of {v.shape[-1]} on {q.device}"
