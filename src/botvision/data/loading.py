"""From a data set to batches: which image comes at which place of a run, and with which randomness.

A run is one long pass over shuffled epochs, and everything random about a sample follows from (seed, place). A run
that is interrupted and resumed at a step therefore sees exactly what it would have seen. Shards are no exception:
they are read at any place (see `shards`), so every image comes once an epoch over all processes and workers, and a
resumed run starts where it stopped without reading what came before.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from botvision import waits
from botvision.errors import StoppedError

Sample = tuple[Any, dict[str, Any]]
"""An image, or a tuple with several views of it, and its target; None and {"path", "reason"} if it cannot be read."""
Batch = dict[str, Any]


@dataclass(eq=False)
class RunBatches(Sampler[list[tuple[int, int]]]):
    """The batches of this process in a run, as lists of (place in the run, index in the data set).

    Args:
        dataset_size: images in the data set.
        batch_size: images in one batch of this process.
        batches: batches of the whole run, also those before ``start``.
        seed: of the order.
        start: batches to leave out, because a run is resumed after them.
        rank, world: this process, and how many share the run.
        order: draws the order of an epoch, int64 (dataset_size,); by default, all orders are equally likely.
    """

    dataset_size: int
    batch_size: int
    batches: int
    _: KW_ONLY
    seed: int
    start: int = 0
    rank: int = 0
    world: int = 1
    order: Callable[[torch.Generator], Tensor] | None = None

    def __len__(self) -> int:
        """Batches of the whole run."""
        return self.batches

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """The batches from ``start`` on."""
        draw = self.order or (lambda generator: torch.randperm(self.dataset_size, generator=generator))
        epoch, order = -1, torch.empty(0)
        for batch in range(self.start, self.batches):
            chosen = []
            for sample in range(batch * self.batch_size, (batch + 1) * self.batch_size):
                place = sample * self.world + self.rank
                if place // self.dataset_size != epoch:
                    epoch = place // self.dataset_size
                    order = draw(generator(self.seed, epoch))
                chosen.append((place, int(order[place % self.dataset_size])))
            yield chosen


class SeededSamples(Dataset):
    """A data set whose sample at a place of a run draws its augmentation from (seed, place).

    Args:
        dataset: gives a sample for an index, drawing from torch's global generator.
        seed: of the run.
    """

    def __init__(self, dataset: Dataset, seed: int) -> None:
        self.dataset = dataset
        self.seed = seed

    def __getitem__(self, place_and_index: tuple[int, int]) -> Sample:
        """The sample of an index, augmented as its place in the run says."""
        place, index = place_and_index
        with torch.random.fork_rng(devices=[]):
            # Not torch.manual_seed, which on every call also notes for GPUs not yet in use who called it: half a
            # millisecond, a quarter of what an image takes.
            torch.default_generator.manual_seed(mixed_seed(self.seed, place))
            return self.dataset[index]


def generator(seed: int, number: int) -> torch.Generator:
    """A generator that belongs to (seed, number)."""
    return torch.Generator().manual_seed(mixed_seed(seed, number))


def mixed_seed(seed: int, number: int) -> int:
    """A seed for (seed, number); neighbours get unrelated ones (the multiplier of Knuth's MMIX generator)."""
    return (seed * 1_000_003 + number) * 6364136223846793005 % 2**63


def collate(samples: list[Sample]) -> Batch:
    """Stack samples of one size, without those that could not be read.

    Returns:
        "images" (B, 3, H, W) uint8, of images as stored (B, C, H, W) float32, or a list with such a tensor for each
        view where samples have several; "targets", a list of B dictionaries; "size", B; and "skipped", a list of
        (path, reason).
        Where nothing could be read, "images" is one tensor, and B, H and W are 0.
    """
    images = [_plain(image) for image, _ in samples if image is not None]
    return {
        "images": default_collate(images) if images else torch.empty((0, 3, 0, 0), dtype=torch.uint8),
        "targets": [target for image, target in samples if image is not None],
        "size": len(images),
        "skipped": [(about["path"], about["reason"]) for image, about in samples if image is None],
    }


def _plain(image: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
    """Without torchvision's subclass of Tensor, which stacking keeps."""
    if isinstance(image, Tensor):
        return image.as_subclass(Tensor)
    return tuple(view.as_subclass(Tensor) for view in image)


class Loader(DataLoader):
    """PyTorch's, without its warning when workers start, and with ``waits.surrounding`` around each wait."""

    def check_worker_number_rationality(self) -> None:
        """Say nothing: more workers than processors are the user's choice."""

    def __iter__(self) -> Any:  # noqa: ANN401 (PyTorch's own iterator there)
        """The batches. Where a signal ends a wait, the processes that read end too: PyTorch would wait for each."""
        batches = super().__iter__()
        try:
            while True:
                with waits.surrounding():
                    batch = next(batches, None)
                if batch is None:
                    return
                yield batch
        except StoppedError:
            for reader in getattr(batches, "_workers", ()):
                reader.terminate()
            raise


def leave_process_group(worker: int) -> None:
    """In a process that reads images: leave the process group of the run, and ignore signals that are meant for it.

    A terminal's Ctrl-C and `timeout` send their signal to the whole group, SLURM to all processes of a job. The run
    answers it by finishing its step, which it could not do without the processes that read for it. SIGTERM still ends
    them where it comes from the run itself.
    """
    os.setpgrp()
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    run = multiprocessing.parent_process()
    if run and hasattr(signal, "sigwaitinfo"):  # which says who sent a signal; macOS has none
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_with_parent, args=(run.pid,), daemon=True).start()


def _end_with_parent(parent: int | None) -> None:
    """End this process at a SIGTERM of its parent; others are ignored.

    The system keeps one SIGTERM at most until it is read here. One of the parent that comes in the milliseconds before
    another is read is lost; the loader tells its processes to end before it sends one.
    """
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)


def training_loader(dataset: Dataset, batches: RunBatches, workers: int) -> DataLoader:
    """The batches of a training run; ``workers`` processes read and augment ahead of it.

    A data set with a method ``epoch_order(generator)`` says in which order its images are read; others are shuffled.
    """
    if hasattr(dataset, "epoch_order"):
        batches = replace(batches, order=dataset.epoch_order)
    return Loader(
        SeededSamples(dataset, batches.seed),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate,
        worker_init_fn=leave_process_group,
        pin_memory=torch.cuda.is_available(),
    )


def evaluation_loader(dataset: Dataset, batch_size: int, workers: int) -> DataLoader:
    """Every image of a data set once, in order."""
    return Loader(dataset, batch_size, num_workers=workers, collate_fn=collate, worker_init_fn=leave_process_group)
