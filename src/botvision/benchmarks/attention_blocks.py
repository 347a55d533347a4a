"""Block sizes of the Triton programs, measured on the card that is there.

``triton_launch.PLANS`` holds what was chosen; this module says what the card would choose.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product

import torch
from rich.table import Table
from torch import Tensor

from botvision.attention.backends import triton_launch, triton_positions
from botvision.attention.backends.triton_launch import Blocks
from botvision.benchmarks.implementations import Size

CANDIDATES = [Blocks(*one) for one in product((64, 128), (32, 64, 128), (4, 8), (2, 3))]
"""What is tried of the programs of attention: queries, keys, warps and stages."""
OF_ATTENTION = ("forward", "query_gradient", "key_gradient")
OF_POSITIONS = [Blocks(*one) for one in product((64, 128), (32, 64), (4, 8), (1, 2))]
"""What is tried of those of relative positions: queries, distances, warps and stages."""
TOLERANCE = 2e-2
"""By which results of half precision may differ between blocks, relative to the largest number."""

Call = Callable[[], tuple[Tensor, ...]]


@dataclass(frozen=True)
class BlocksTime:
    """A program with some blocks; None where the card cannot run it."""

    program: str
    size: Size
    head_width: int
    blocks: Blocks
    is_chosen: bool
    """Whether ``PLANS`` has these blocks."""
    ms: float | None
    """Median."""


def tune(
    size: Size, *, batch: int, heads: int, head_width: int, dtype: torch.dtype, say: Callable[[str], None]
) -> list[BlocksTime]:
    """Time every candidate of the six programs on one map, on the current NVIDIA card.

    Args:
        size: (H, W) of the map.
        batch, heads, head_width, dtype: of the queries, keys and values.
        say: told what is measured.

    Returns:
        The chosen blocks of each program first, then the others.
    """
    calls, key = programs(size, batch, heads, head_width, dtype)
    found = []
    for program, call in calls.items():
        say(f"blocks of {program}, {size[0]}x{size[1]}, heads of {head_width}")
        chosen: Blocks = getattr(triton_launch.PLANS[key], program)
        wanted = call()
        candidates = CANDIDATES if program in OF_ATTENTION else OF_POSITIONS
        for blocks in [chosen, *(one for one in candidates if one != chosen)]:
            with using(key, program, blocks):
                ms = time_of(call, wanted)
            found.append(BlocksTime(program, size, head_width, blocks, blocks == chosen, ms))
    return found


def programs(
    size: Size, batch: int, heads: int, head_width: int, dtype: torch.dtype
) -> tuple[dict[str, Call], tuple[str, str]]:
    """A call of each program on random input, and the entry of ``PLANS`` that they take their blocks from."""
    positions = size[0] * size[1]
    random = partial(torch.randn, device="cuda")
    q, k, v, grad = (random(batch, heads, positions, head_width).to(dtype) for _ in range(4))
    bias_height, bias_width = (random(batch, heads, positions, side) for side in size)
    inputs, scale = (q, k, v, bias_height, bias_width), head_width**-0.5
    out, log_sum = triton_launch.triton_forward(*inputs, scale)
    delta = (grad.float() * out.float()).sum(dim=-1)
    rel_height, rel_width = (random(2 * side - 1, head_width).to(dtype) for side in size)
    of_positions = (bias_height, bias_width), q, (rel_height, rel_width), size, scale
    return {
        "forward": partial(triton_launch.triton_forward, *inputs, scale),
        "query_gradient": partial(
            triton_launch.launch_query_gradient, grad, inputs, out, log_sum, torch.empty_like(delta), scale
        ),
        "key_gradient": partial(triton_launch.launch_key_gradient, grad, inputs, log_sum, delta, scale),
        "biases": partial(triton_positions.position_biases, q, rel_height, rel_width, size, scale),
        "bias_query_gradient": lambda: (triton_positions.query_gradient(*of_positions),),
        "table_gradient": partial(triton_positions.table_gradients, *of_positions),
    }, triton_launch.plan_key(q, v)


@contextmanager
def using(key: tuple[str, str], program: str, blocks: Blocks) -> Iterator[None]:
    """Let a program run with other blocks inside the context."""
    before = triton_launch.PLANS[key]
    triton_launch.PLANS[key] = before._replace(**{program: blocks})
    try:
        yield
    finally:
        triton_launch.PLANS[key] = before


def time_of(call: Call, wanted: tuple[Tensor, ...]) -> float | None:
    """Median time of a call, in ms; None where the card cannot run it.

    Raises:
        RuntimeError: it computes something else than wanted.
    """
    from triton.runtime.errors import OutOfResources
    from triton.testing import do_bench

    try:
        found = call()
    except OutOfResources:  # more shared memory or registers than the card has
        return None
    for one, other in zip(found, wanted, strict=True):
        if not (one.float() - other.float()).abs().max() <= TOLERANCE * other.float().abs().max():
            raise RuntimeError("a Triton program computes something else with other blocks")
    return do_bench(call, warmup=5, rep=30, return_mode="median")


def blocks_table(times: list[BlocksTime], fastest: int = 3) -> Table:
    """The chosen blocks and the fastest ones of each program on each map."""
    table = Table(title="Blocks of the Triton programs: queries x keys, warps, stages; * is what botvision takes")
    for column in ("program", "map", "head width", "blocks", "ms", "of chosen"):
        table.add_column(column)
    for program, size, width in dict.fromkeys((one.program, one.size, one.head_width) for one in times):
        own = [one for one in times if (one.program, one.size, one.head_width) == (program, size, width)]
        chosen = next(one for one in own if one.is_chosen)
        ran = sorted((one for one in own if one.ms is not None), key=lambda one: one.ms or 0)
        for one in dict.fromkeys([chosen, *ran[:fastest]]):
            queries, keys, warps, stages = one.blocks
            ratio = f"{one.ms / chosen.ms:.2f}" if one.ms and chosen.ms else "-"
            words = f"{queries}x{keys}, {warps}, {stages}{' *' if one.is_chosen else ''}"
            ms = "-" if one.ms is None else f"{one.ms:.3f}"
            table.add_row(program, f"{size[0]}x{size[1]}", str(width), words, ms, ratio)
    return table
