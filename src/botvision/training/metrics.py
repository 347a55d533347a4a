"""The numbers of a run, to ``metrics.csv`` and to TensorBoard."""

import csv
import resource
import sys
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.tensorboard import SummaryWriter

from botvision.files import whole_file
from botvision.training.checkpoints import stepped

LOSSES = ("objectness", "proposal_box", "class", "box", "mask")
SCORES = ("val_box_ap", "val_box_ap50", "val_mask_ap", "val_mask_ap50")
COLUMNS = ("step", "epoch", "lr", "images_per_second", "memory_mb", "loss", *LOSSES, *SCORES)


class Metrics(pl.Callback):
    """Writes a line of metrics after every ``every`` steps, and one after each evaluation.

    Losses are means since the line before; memory is the most that was taken so far, of the GPU or of the process.

    Args:
        folder: of the run.
        every: steps between two lines; the last step gets one too.
        steps: of the whole run.
        images_per_step: images in one optimiser step, over all devices.
        images_per_epoch: images of the data set.
    """

    def __init__(self, folder: Path, every: int, steps: int, images_per_step: int, images_per_epoch: int) -> None:
        self.folder = folder
        self.every = every
        self.steps = steps
        self.images_per_step = images_per_step
        self.images_per_epoch = images_per_epoch
        self.sums: dict[str, torch.Tensor] = {}
        self.batches = 0
        self.latest: dict[str, float] = {}
        self.lr = 0.0
        self.since = (0, 0.0)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the files; of a resumed run, drop the lines after the checkpoint."""
        self.since = (trainer.global_step, time.perf_counter())
        if trainer.is_global_zero:
            self.table = self.folder / "metrics.csv"
            continue_table(self.table, trainer.global_step)
            self.writer = SummaryWriter(str(self.folder / "tensorboard"), purge_step=trainer.global_step + 1)

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:  # noqa: ANN401
        """Note the learning rate before the schedule moves on."""
        self.lr = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_end(  # type: ignore[override]
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: dict[str, torch.Tensor],
        *_: Any,  # noqa: ANN401
    ) -> None:
        """Add the losses up; write a line when it is due."""
        self.batches += 1
        for name in LOSSES:
            self.sums[name] = self.sums.get(name, 0) + outputs[name].detach()
        if stepped(trainer) and (trainer.global_step % self.every == 0 or trainer.global_step == self.steps):
            step, started = self.since
            seconds = time.perf_counter() - started
            epoch = trainer.global_step * self.images_per_step / self.images_per_epoch
            losses = {name: total.item() / self.batches for name, total in self.sums.items()}
            self.latest = {
                "epoch": round(epoch, 4),
                "lr": self.lr,
                "images_per_second": (trainer.global_step - step) * self.images_per_step / seconds,
                "memory_mb": memory_mb(),
                "loss": sum(losses.values()),  # the engine's own is divided by the batches that accumulate
                **losses,
            }
            self.write(trainer, self.latest)
            self.sums, self.batches = {}, 0
            self.since = (trainer.global_step, time.perf_counter())

    def evaluated(self, trainer: pl.Trainer, scores: dict[str, Any], seconds: float) -> None:
        """Write a line of scores, and leave the time that they took out of the images per second."""
        self.since = (self.since[0], self.since[1] + seconds)
        self.write(trainer, {name: scores[name.split("_")[1]][name.split("_")[2]] for name in SCORES})

    def write(self, trainer: pl.Trainer, values: dict[str, float]) -> None:
        """One line of the table, and one point of each curve."""
        if trainer.is_global_zero:
            with self.table.open("a", newline="") as file:
                csv.DictWriter(file, COLUMNS).writerow({"step": trainer.global_step, **values})
            for name, value in values.items():
                self.writer.add_scalar(name, value, trainer.global_step)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Close the files."""
        if hasattr(self, "writer"):
            self.writer.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Close the files of a run that fails too: what they hold back in memory would be lost."""
        self.teardown(trainer, pl_module, "fit")


def continue_table(table: Path, step: int) -> None:
    """Start the table with its header, or keep of an old one the lines up to ``step``."""
    kept: list[dict[str, str]] = []
    if table.exists():
        with table.open(newline="") as file:
            kept = [row for row in csv.DictReader(file) if int(row["step"]) <= step]
    with whole_file(table) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(kept)


def memory_mb() -> float:
    """The most memory taken so far, in MB: of the GPU where there is one, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
