"""The losses of each step, as means over batches and processes, read without waiting for the device."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from botvision.errors import NotFiniteError


class StepResult(NamedTuple):
    """What all processes know of a step."""

    step: int
    losses: dict[str, float]
    """Means over the batches of the step and over the processes; "loss" is finite."""
    stop: bool
    """A process received a signal to stop."""
    failed: bool
    """A process cannot continue."""


class StepLosses:
    """Collects the losses of a step and reduces them over the processes, so that all judge the same numbers.

    On a GPU the numbers of a step are read after the next step was queued: they have arrived, and the GPU has work.
    On a CPU they are read at once. The first of ``names`` is "loss".
    """

    def __init__(self, names: Sequence[str], device: torch.device) -> None:
        self.names = names
        self.device = device
        self.sums: Tensor | None = None
        self.batches = 0
        self.unread: deque[tuple[int, Tensor, torch.cuda.Event | None]] = deque()
        """Steps, their numbers on the way from the device, and when these have arrived."""

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Add the losses of a batch to those of the step."""
        values = torch.stack([losses[name].detach().double() for name in self.names])
        self.sums = values if self.sums is None else self.sums + values
        self.batches += 1

    def end_step(self, step: int, *, stop: bool, failed: bool) -> None:
        """Reduce the losses of a step over all processes, and start to copy them from the device.

        ``stop`` says that this process received a signal to stop, ``failed`` that it cannot continue.
        """
        assert self.sums is not None, "a step has at least one batch"
        flags = torch.tensor([stop, failed], dtype=torch.float64).to(self.device, non_blocking=True)
        numbers = torch.cat([self.sums / self.batches, flags])
        if dist.is_initialized():
            dist.all_reduce(numbers)
            numbers /= dist.get_world_size()
        arrived = None
        if self.device.type == "cuda":
            numbers = numbers.to("cpu", non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record()
        self.unread.append((step, numbers, arrived))
        self.sums, self.batches = None, 0

    def results(self, *, wait: bool) -> Iterator[StepResult]:
        """The results of steps not given before; ``wait`` includes the last one, for which a GPU has to be waited for.

        Raises:
            NotFiniteError: the loss of a step is infinite or NaN, on any process.
        """
        late = 0 if wait or self.device.type == "cpu" else 1
        while len(self.unread) > late:
            step, numbers, arrived = self.unread.popleft()
            if arrived is not None:
                arrived.synchronize()
            *losses, stop, failed = numbers.tolist()
            result = StepResult(step, dict(zip(self.names, losses, strict=True)), stop > 0, failed > 0)
            if not torch.isfinite(numbers[0]):
                raise NotFiniteError(f"the loss is {result.losses['loss']} at step {step}")
            yield result
