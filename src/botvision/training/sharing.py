"""What the processes of a run do together; each function also works where there is only one process."""

import os
import platform
from collections.abc import Callable
from typing import Any, NamedTuple, Self, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import Dataset, Subset

from botvision.configuration import FieldError
from botvision.errors import NotFiniteError, StoppedError, UserError
from botvision.training.connection import NotConnectedError, shared

T = TypeVar("T")


def on_first_process(function: Callable[[], T]) -> T:
    """Call a function on the first process, and return its result, or raise its UserError, on all of them."""
    is_first = not dist.is_initialized() or dist.get_rank() == 0
    results: list[Any] = gather_or_raise(lambda: function() if is_first else None, names_process=False)
    return results[0]


def mean_of_batch(mean: Tensor, count: Tensor | float) -> Tensor:
    """A mean over things of this process, weighted so that the mean over the processes is that over all their things.

    DDP averages the gradients of the processes. A process with many objects would count as much as one with few, and a
    run would depend on how many processes share its batches.

    Args:
        mean: () or (N,), 0 where there is nothing.
        count: of the things, of the same shape or one for all. Every process has to call it equally often.
    """
    if not dist.is_initialized():
        return mean
    counts = torch.as_tensor(count, dtype=torch.float32, device=mean.device)
    total = counts.clone()
    dist.all_reduce(total)
    return mean * (counts * dist.get_world_size() / total.clamp(min=1))


def on_every_process(function: Callable[[], T]) -> T:
    """Call a function on every process; each gets its own result, and all raise the UserError of any of them."""
    results: list[T] = []
    gather_or_raise(lambda: results.append(function()))
    return results[0]


def own_share(dataset: Dataset, batch_size: int) -> Dataset:
    """The images that this process evaluates: every n-th batch where n processes evaluate together.

    They are whole batches, the same ones that a single process makes, because an answer of the network can depend in
    its last digits on what else is in the batch.
    """
    if not dist.is_initialized():
        return dataset
    size = len(dataset)  # type: ignore[arg-type]  # every data set here has a length
    starts = range(dist.get_rank() * batch_size, size, dist.get_world_size() * batch_size)
    return Subset(dataset, [index for start in starts for index in range(start, min(start + batch_size, size))])


class Failure(NamedTuple):
    """What went wrong on a process, so that all can raise it."""

    rank: int
    kind: type[BaseException]
    path: tuple[str, ...]
    """Of a field."""
    problem: str
    machine: str
    others: tuple[str, ...]
    """Fields that the problem names."""

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """Of an error on this process; all but the user's own errors are named by their type."""
        kinds = (kind for kind in (FieldError, NotFiniteError, StoppedError) if isinstance(error, kind))
        field = error if isinstance(error, FieldError) else FieldError((), str(error))
        path, problem, others = field.path, field.problem, field.others
        if not isinstance(error, UserError | OSError | StoppedError):
            problem = f"{type(error).__name__}: {problem}"
        return cls(dist.get_rank(), next(kinds, UserError), path, problem, platform.node(), others)

    def error(self, *, names_process: bool) -> UserError:
        """The error that all processes raise; the first one tells it."""
        where = f"process {self.rank} of {dist.get_world_size()} on {self.machine}: " if names_process else ""
        problem = where + self.problem
        if self.kind is FieldError:
            return shared(FieldError(self.path, problem, self.others))
        return shared(NotFiniteError(problem) if self.kind is NotFiniteError else UserError(problem))


def gather_or_raise(function: Callable[[], T], *, names_process: bool = True) -> list[T]:
    """Call a function on every process; all get the list of all results, in the order of the processes.

    Without it, a process that fails would leave the others waiting for its results. An error that not all processes
    have names its process, unless ``names_process`` is false.

    Raises:
        UserError: the function raised one, or the system an OSError, on any process; all raise it, as a NotFiniteError
            or a FieldError if it was one. Any other error is raised as it is on its own process.
    """
    if not dist.is_initialized():
        return [function()]
    result, failed = None, None
    try:
        result = function()
    except (Exception, StoppedError) as error:
        failed = error
    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, (result, failed and Failure.of(failed)))
    failures = [failure for _, failure in everyone if failure is not None]
    if failed is not None and not isinstance(failed, UserError | OSError | StoppedError):
        raise failed
    for failure in failures:
        if failure.kind is StoppedError:
            raise StoppedError(failure.problem)
    if failures:
        on_all = len(failures) == len(everyone) and len({failure.problem for failure in failures}) == 1
        raise failures[0].error(names_process=names_process and not on_all) from failed
    return [result for result, _ in everyone]


def check_alike(own: Callable[[], str], problem: str) -> None:
    """Refuse to go on where the processes have different things.

    Args:
        own: gives what this process has, for people to read; it is not called where there is one process alone.
        problem: "the processes of this run have different versions" or the like.

    Raises:
        UserError: each thing is named, with the first process that has it and its machine; or what ``own`` raised.
    """
    if not dist.is_initialized():
        return
    everyone = gather_or_raise(lambda: (own(), platform.node()))
    first = {thing: rank for rank, (thing, _) in reversed(list(enumerate(everyone)))}
    if len(first) > 1:
        ranks = sorted(first.values())
        named = ", ".join(f"{everyone[rank][0]} (process {rank} on {everyone[rank][1]})" for rank in ranks)
        raise shared(UserError(f"{problem}: {named}"))


def is_told_by_first(error: Exception) -> bool:
    """Whether all processes of a run have an error: it was shared, or is one of the command line they all have."""
    if getattr(error, "is_shared", False):
        return True
    return not dist.is_initialized() and not isinstance(error, NotConnectedError)


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
