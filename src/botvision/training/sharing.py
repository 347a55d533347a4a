"""What the processes of a run do together; each function also works where there is only one process."""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import Dataset, Subset

from botvision.errors import NotFiniteError, UserError

T = TypeVar("T")


class StoppedError(Exception):
    """A signal asked a run to stop, inside an evaluation; it is made up when the run goes on."""


def on_first_process(function: Callable[[], T]) -> T:
    """Call a function on the first process, and return its result, or raise its UserError, on all of them."""
    is_first = not dist.is_initialized() or dist.get_rank() == 0
    results: list[Any] = gather_or_raise(lambda: function() if is_first else None)
    return results[0]


def mean_of_batch(mean: Tensor, count: Tensor | float) -> Tensor:
    """A mean over things of this process, weighted so that the mean over the processes is that over all their things.

    DDP averages the gradients of the processes. A process with many objects would count as much as one with few, and a
    run would depend on how many processes share its batches.

    Args:
        mean: () or (N,), 0 where there is nothing.
        count: of the things, of the same shape. Every process has to call it equally often.
    """
    if not dist.is_initialized():
        return mean
    counts = torch.as_tensor(count, dtype=torch.float32, device=mean.device)
    total = counts.clone()
    dist.all_reduce(total)
    return mean * (counts * dist.get_world_size() / total.clamp(min=1))


def own_share(dataset: Dataset) -> Dataset:
    """The images that this process evaluates: every n-th one where n processes evaluate together."""
    if not dist.is_initialized():
        return dataset
    size = len(dataset)  # type: ignore[arg-type]  # every data set here has a length
    return Subset(dataset, range(dist.get_rank(), size, dist.get_world_size()))


def gather_or_raise(function: Callable[[], T]) -> list[T]:
    """Call a function on every process; all get the list of all results, in the order of the processes.

    Without it, a process that fails would leave the others waiting for its results.

    Raises:
        UserError: the function raised one, or an OSError, on any process; all raise it, as a NotFiniteError if it was
            one.
        StoppedError: the function raised it on any process.
    """
    if not dist.is_initialized():
        return [function()]
    own: tuple[Any, str | None, type[Exception]]
    try:
        own = (function(), None, UserError)
    except (UserError, OSError, StoppedError) as error:
        kinds = (kind for kind in (NotFiniteError, StoppedError) if isinstance(error, kind))
        own = (None, str(error), next(kinds, UserError))
    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, own)
    for _, message, kind in everyone:
        if message is not None:
            raise kind(message)
    return [result for result, _, _ in everyone]


class StopFlag:
    """A flag that each process can raise, and all see, without waiting for each other as in a collective call."""

    KEY = "stop"

    def __init__(self) -> None:
        self.store: dist.TCPStore | None = None
        if dist.is_initialized():
            host, is_first = os.environ["MASTER_ADDR"], dist.get_rank() == 0
            if is_first:
                self.store = dist.TCPStore(host, 0, is_master=True, wait_for_workers=False)  # on any free port
            port = on_first_process(lambda: self.store.port if self.store else 0)
            self.store = self.store or dist.TCPStore(host, port, is_master=False, wait_for_workers=False)

    def is_raised(self, own: bool) -> bool:
        """Raise the flag if ``own`` is true; returns whether a process has raised it."""
        if self.store is None:
            return own
        if own:
            self.store.set(self.KEY, "1")
        return self.store.check([self.KEY])
