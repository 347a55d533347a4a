"""A call that is measured again and again, and what its device says: the time, and that its memory is used up."""

import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from botvision.benchmarks.peak_memory import peak_memory

OUT_OF_MEMORY = "out of memory"


@dataclass
class Trial:
    """One pass of a layer or a model, measured again and again unless it fails."""

    call: Callable[[], None]
    device: torch.device
    seconds: list[float] = field(default_factory=list)
    peak: int | None = None
    note: str = ""

    def measure_memory(self) -> None:
        """One call for its memory."""
        self.peak = peak_memory(self.call, self.device)

    def measure_time(self) -> None:
        """One call for its time."""
        started = now(self.device)
        self.call()
        self.seconds.append(now(self.device) - started)

    def attempt(self, action: Callable[[], None]) -> None:
        """Do it, unless it failed before; a lack of memory or of an implementation is noted."""
        if self.note:
            return
        try:
            action()
        except NotImplementedError as error:
            self.note = str(error).partition(". ")[0]
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            self.note = OUT_OF_MEMORY

    def ms(self) -> float | None:
        """The median."""
        return None if self.note else 1e3 * statistics.median(self.seconds)

    def spread_ms(self) -> tuple[float, float] | None:
        """The smallest and the largest."""
        return None if self.note else (1e3 * min(self.seconds), 1e3 * max(self.seconds))

    def mib(self) -> float | None:
        """The peak."""
        return None if self.note or self.peak is None else self.peak / 2**20


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device had no memory left; a processor's error shows it in its message alone."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def now(device: torch.device) -> float:
    """The time in seconds, once the device has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def arithmetic(device: torch.device, dtype: torch.dtype) -> Any:  # noqa: ANN401 (a context)
    """What a forward pass runs in: float32 as it is, bfloat16 by autocast."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)
