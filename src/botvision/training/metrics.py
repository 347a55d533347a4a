"""The numbers of a run, to ``metrics.csv`` and to TensorBoard."""

import csv
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.tensorboard import SummaryWriter

from botvision.files import room_for, whole_file
from botvision.training.checkpoints import stepped
from botvision.training.task import Task
from botvision.training.waiting import TimedLoader

COLUMNS = ("step", "epoch", "lr", "images_per_second", "data_wait", "memory_mb")
"""What every kind of run has in ``metrics.csv``, before the losses and the scores of its task."""


class Metrics(pl.Callback):
    """Writes a line of metrics after every ``every`` steps, and one after each evaluation.

    Losses are means since the line before, and ``data_wait`` is the share of the time since then that went by waiting
    for the loader; memory is the most that was taken so far, of the GPU or of the process.

    Args:
        folder: of the run.
        task: what is trained.
        steps: of the whole run; the last one gets a line whatever the interval.
        loader: knows how long it was waited for.
    """

    def __init__(self, folder: Path, task: Task, steps: int, loader: TimedLoader) -> None:
        self.folder = folder
        self.every = task.experiment.run.log_every
        self.images_per_step = task.experiment.run.batch_size
        self.images_per_epoch = len(task.train_set)
        self.columns = columns_of(task)
        self.steps = steps
        self.loader = loader
        self.sums: dict[str, torch.Tensor] = {}
        self.batches = 0
        self.latest: dict[str, float] = {}
        self.lr = 0.0
        self.since = (0, 0.0, 0.0)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the files; of a resumed run, drop the lines after the checkpoint."""
        self.start_counting(trainer)
        if trainer.is_global_zero:
            self.table = self.folder / "metrics.csv"
            continue_table(self.table, self.columns, trainer.global_step)
            self.writer = SummaryWriter(str(self.folder / "tensorboard"), purge_step=trainer.global_step + 1)

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:  # noqa: ANN401
        """Note the learning rate before the schedule moves on."""
        self.lr = trainer.optimizers[0].param_groups[0]["lr"]

    def start_counting(self, trainer: pl.Trainer) -> None:
        """Begin a new line."""
        self.sums, self.batches = {}, 0
        self.since = (trainer.global_step, time.perf_counter(), self.loader.waited)

    def on_train_batch_end(  # type: ignore[override]
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: dict[str, Any],
        *_: Any,  # noqa: ANN401
    ) -> None:
        """Add the losses up; write a line when it is due."""
        self.batches += 1
        for name, value in outputs["shown"].items():
            self.sums[name] = self.sums.get(name, 0) + value
        if stepped(trainer) and (trainer.global_step % self.every == 0 or trainer.global_step == self.steps):
            step, started, waited = self.since
            seconds = time.perf_counter() - started
            epoch = trainer.global_step * self.images_per_step / self.images_per_epoch
            self.latest = {
                "epoch": round(epoch, 4),
                "lr": self.lr,
                "images_per_second": (trainer.global_step - step) * self.images_per_step / seconds,
                "data_wait": min(1.0, (self.loader.waited - waited) / seconds),
                "memory_mb": memory_mb(),
                # Not the engine's own loss, which is divided by the batches that accumulate.
                **{name: total.item() / self.batches for name, total in self.sums.items()},
            }
            self.write(trainer, self.latest)
            self.start_counting(trainer)

    def evaluated(self, trainer: pl.Trainer, scores: dict[str, float], seconds: float) -> None:
        """Write a line of scores, and leave the time that they took out of the images per second."""
        step, started, waited = self.since
        self.since = (step, started + seconds, waited)
        self.write(trainer, scores)

    def write(self, trainer: pl.Trainer, values: dict[str, float]) -> None:
        """One line of the table, and one point of each curve."""
        if trainer.is_global_zero:
            add_row(self.table, self.columns, {"step": trainer.global_step, **values})
            for name, value in values.items():
                self.writer.add_scalar(name, value, trainer.global_step)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Close the files."""
        if hasattr(self, "writer"):
            self.writer.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Close the files of a run that fails too: what they hold back in memory would be lost."""
        self.teardown(trainer, pl_module, "fit")


def columns_of(task: Task) -> tuple[str, ...]:
    """The columns of ``metrics.csv``."""
    return (*COLUMNS, *task.columns, *task.score_columns)


def add_row(table: Path, columns: Sequence[str], values: Mapping[str, Any]) -> None:
    """Write one more line of the table."""
    with room_for(table), table.open("a", newline="") as file:
        csv.DictWriter(file, columns).writerow(values)


def continue_table(table: Path, columns: Sequence[str], step: int) -> None:
    """Start the table with its header, or keep of an old one the lines up to ``step``."""
    kept: list[dict[str, str]] = []
    if table.exists():
        with table.open(newline="") as file:
            kept = [row for row in csv.DictReader(file) if int(row["step"]) <= step]
    with whole_file(table) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(kept)


def memory_mb() -> float:
    """The most memory taken so far, in MB: of the GPU where there is one, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
