"""Which operators of PyTorch a step spends its time in."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from rich.table import Table


@dataclass(frozen=True)
class OperatorTime:
    """An operator in a step."""

    name: str
    calls: int
    ms: float
    share: float
    """Of the time of all operators."""


def profile(step: Callable[[], None], device: torch.device, rows: int = 15) -> list[OperatorTime]:
    """The operators of a step that take most of the time, without what they call.

    Args:
        step: called twice, the first time to warm up.
        device: whose time it is.
        rows: the most operators to give.
    """
    step()
    cuda = device.type == "cuda"
    kinds = [torch.profiler.ProfilerActivity.CPU, *([torch.profiler.ProfilerActivity.CUDA] if cuda else [])]
    with torch.profiler.profile(activities=kinds) as profiler:
        step()
    own = "self_device_time_total" if cuda else "self_cpu_time_total"
    operators = sorted(profiler.key_averages(), key=lambda one: getattr(one, own), reverse=True)
    total = sum(getattr(one, own) for one in operators)
    times = [(one, getattr(one, own)) for one in operators[:rows]]
    return [OperatorTime(one.key, one.count, time / 1e3, time / total) for one, time in times]


def profile_table(name: str, operators: list[OperatorTime]) -> Table:
    """What :func:`profile` found for a model."""
    table = Table("operator", "calls", "ms", "share (%)", title=name)
    for one in operators:
        table.add_row(one.name, str(one.calls), f"{one.ms:.1f}", f"{100 * one.share:.1f}")
    return table
