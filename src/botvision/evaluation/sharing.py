"""Several processes that evaluate together: each takes its share of the images, all get all results."""

from typing import Any

import torch.distributed as dist
from torch.utils.data import Dataset, Subset


def own_share(dataset: Dataset) -> Dataset:
    """The images that this process evaluates: every n-th of them where n processes do it together."""
    if not dist.is_initialized():
        return dataset
    size = len(dataset)  # type: ignore[arg-type]  # every data set here has a length
    return Subset(dataset, range(dist.get_rank(), size, dist.get_world_size()))


def gather(results: list[Any]) -> list[Any]:
    """The results of all processes, on each of them."""
    if not dist.is_initialized():
        return results
    everyone: list[list[Any]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(everyone, results)
    return [result for share in everyone for result in share]
