"""What the processes of a run do together; each function also works where there is only one process."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import Dataset, Subset

from botvision.errors import NotFiniteError, UserError

T = TypeVar("T")


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
        UserError: the function raised one, on any process; all raise it, as a NotFiniteError if it was one.
    """
    if not dist.is_initialized():
        return [function()]
    own: tuple[Any, str | None, bool]
    try:
        own = (function(), None, False)
    except UserError as error:
        own = (None, str(error), isinstance(error, NotFiniteError))
    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, own)
    for _, message, not_finite in everyone:
        if message is not None:
            raise (NotFiniteError if not_finite else UserError)(message)
    return [result for result, _, _ in everyone]
