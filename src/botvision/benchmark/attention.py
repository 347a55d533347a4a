"""How long the attention layer takes beside its peers, in interleaved runs of one process."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from rich.table import Table
from torch import Tensor

from botvision.attention import definition_attention, folded_attention, relative_attention

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From q, k, v of shape (B, heads, H*W, d) to the same shape."""


@dataclass(frozen=True)
class Timing:
    """One way to attend, on one map."""

    size: tuple[int, int]
    name: str
    forward_ms: float
    """Median."""
    both_ms: float
    """Forward and backward; median."""


def ways(size: tuple[int, int], head_width: int, device: torch.device) -> dict[str, Attention]:
    """The ways that are compared; "plain" attends without positions, which nothing exact can be expected to beat."""
    height, width = size
    rel_height = torch.randn(2 * height - 1, head_width, device=device, requires_grad=True)
    rel_width = torch.randn(2 * width - 1, head_width, device=device, requires_grad=True)
    tables: dict[str, Any] = {"rel_height": rel_height, "rel_width": rel_width, "size": size}
    scale = head_width**-0.5
    return {
        "botvision": partial(relative_attention, **tables),
        "definition": partial(definition_attention, **tables, scale=scale),
        "folded": partial(folded_attention, **tables, scale=scale),
        "plain": F.scaled_dot_product_attention,
    }


def bench_attention(
    sizes: list[tuple[int, int]], *, batch: int, heads: int, head_width: int, repeats: int, device: torch.device
) -> list[Timing]:
    """Time every way on every map; the ways take turns, so that a busy moment of the machine meets all of them.

    Args:
        sizes: (H, W) of the maps.
        batch, heads, head_width: of q, k and v, float32.
        repeats: turns; medians are reported.
        device: where to run.
    """
    timings = []
    for size in sizes:
        candidates = ways(size, head_width, device)
        # (B, N, 3, heads, d) is what a channels-last 1x1 convolution leaves: heads with a contiguous last axis.
        projected = torch.randn(batch, size[0] * size[1], 3, heads, head_width, device=device)
        q, k, v = (part.requires_grad_() for part in projected.permute(2, 0, 3, 1, 4).unbind(0))
        forward: dict[str, list[float]] = {name: [] for name in candidates}
        both: dict[str, list[float]] = {name: [] for name in candidates}
        for turn in range(repeats + 1):
            for name, attend in candidates.items():
                one, two = time_once(attend, q, k, v)
                if turn:  # the first turn warms caches up
                    forward[name].append(one)
                    both[name].append(two)
        timings += [
            Timing(size, name, 1e3 * statistics.median(forward[name]), 1e3 * statistics.median(both[name]))
            for name in candidates
        ]
    return timings


def time_once(attend: Attention, q: Tensor, k: Tensor, v: Tensor) -> tuple[float, float]:
    """Seconds of one forward pass without a graph, and of one forward and backward pass."""
    started = now(q.device)
    with torch.no_grad():
        attend(q, k, v)
    middle = now(q.device)
    torch.autograd.grad(attend(q, k, v).sum(), (q, k, v))
    return middle - started, now(q.device) - middle


def now(device: torch.device) -> float:
    """The time, once the device has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def timings_table(timings: list[Timing]) -> Table:
    """The timings, with their ratio to plain attention on the same map."""
    table = Table("map", "way", "forward (ms)", "/ plain", "forward + backward (ms)", "/ plain")
    plain = {timing.size: timing for timing in timings if timing.name == "plain"}
    for timing in timings:
        floor = plain[timing.size]
        table.add_row(
            f"{timing.size[0]}x{timing.size[1]}",
            timing.name,
            f"{timing.forward_ms:.1f}",
            f"{timing.forward_ms / floor.forward_ms:.2f}",
            f"{timing.both_ms:.1f}",
            f"{timing.both_ms / floor.both_ms:.2f}",
        )
    return table
