"""Which operators of PyTorch a step spends its time in."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from rich.table import Table
from torch.autograd import DeviceType


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
    return longest(profiler.key_averages(), own, rows)


def longest(events: Iterable[Any], own: str, rows: int) -> list[OperatorTime]:
    """The operators among a profiler's events that take most of the time.

    Args:
        events: averages by name. A GPU's kernels are among them, too; their time is that of the operators already.
        own: the attribute with the time of an operator without what it calls, in microseconds.
        rows: the most operators to give.
    """
    operators = [(getattr(one, own), one) for one in events if one.device_type == DeviceType.CPU]
    operators.sort(key=lambda pair: pair[0], reverse=True)
    total = sum(time for time, _ in operators)
    return [OperatorTime(one.key, one.count, time / 1e3, time / total) for time, one in operators[:rows]]


def profile_table(name: str, operators: list[OperatorTime]) -> Table:
    """What :func:`profile` found for a model."""
    table = Table("operator", "calls", "ms", "share (%)", title=name)
    for one in operators:
        table.add_row(one.name, str(one.calls), f"{one.ms:.1f}", f"{100 * one.share:.1f}")
    return table
