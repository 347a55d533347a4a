"""The numbers of a run: two tables, TensorBoard and the progress line. Only the first process writes them."""

import csv
import resource
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from botvision.errors import UserError, printable
from botvision.files import room_for, whole_file
from botvision.training.trainable import Trainable

COLUMNS = ("step", "time", "epoch", "lr", "images_per_second", "data_wait", "memory_mb")
"""What every run has in ``metrics.csv``, before the losses of its task."""
PROGRESS = "loss {loss:.3f}, {images_per_second:.1f} images/s, {data_wait:.0%} of the time waiting for data"


class Metrics:
    """Writes a line of losses to ``metrics.csv`` when it is asked to, and of scores to ``evaluations.csv``.

    ``time`` is when the line was written, in UTC. Losses are means over the steps since the line before. ``data_wait``
    is the share of the time since then that went by waiting for the loader. ``memory_mb`` is the most memory used so
    far, of the GPU or of the process.

    ``step`` counts the steps done: of a resumed run, the lines after it are removed. ``writes`` says whether this
    process writes the files.
    """

    def __init__(self, folder: Path, task: Trainable, step: int, *, writes: bool) -> None:
        self.images_per_step = task.experiment.run.batch_size
        self.images_per_epoch = task.images
        self.tables = {
            folder / "metrics.csv": (*COLUMNS, *task.columns),
            folder / "evaluations.csv": ("step", "time", *task.score_columns),
        }
        self.losses_table, self.scores_table = self.tables
        self.writer: SummaryWriter | None = None
        self.latest: dict[str, float] = {}
        self.start_line(step)
        if writes:
            for table, columns in self.tables.items():
                continue_table(table, columns, step)
            self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def start_line(self, step: int) -> None:
        """Start to count for a new line, after so many steps."""
        self.since, self.started, self.waited = step, time.perf_counter(), 0.0
        self.sums: dict[str, float] = {}

    def add(self, losses: Mapping[str, float]) -> None:
        """Add the losses of a step."""
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def write_losses(self, step: int, lr: float) -> None:
        """Write the line of a step, and start the next one."""
        seconds, steps = time.perf_counter() - self.started, step - self.since
        self.latest = {
            "epoch": round(step * self.images_per_step / self.images_per_epoch, 4),
            "lr": lr,
            "images_per_second": steps * self.images_per_step / seconds,
            "data_wait": min(1.0, self.waited / seconds),
            "memory_mb": memory_mb(),
            **{name: total / steps for name, total in self.sums.items()},
        }
        self.write(self.losses_table, step, self.latest)
        self.start_line(step)

    def write_scores(self, step: int, scores: Mapping[str, float | None], seconds: float) -> None:
        """Write a line of scores; the seconds that they took do not count as training time."""
        self.started += seconds
        self.write(self.scores_table, step, scores)

    def show_pictures(self, step: int, pictures: Iterable[Path]) -> None:
        """Show picture files in TensorBoard, by their names."""
        if self.writer is None:
            return
        for file in pictures:
            with Image.open(file) as picture:
                self.writer.add_image(printable(file.stem), np.asarray(picture), step, dataformats="HWC")

    def write(self, table: Path, step: int, values: Mapping[str, float | None]) -> None:
        """One line of a table, and one point of each curve."""
        if self.writer is None:
            return
        now = datetime.now(UTC).isoformat(timespec="seconds")
        add_row(table, self.tables[table], {"step": step, "time": now, **values})
        for name, value in values.items():
            if value is not None:
                self.writer.add_scalar(name, value, step)

    def progress(self) -> str:
        """A short text with the latest losses and speed."""
        return PROGRESS.format_map(self.latest) if self.latest else ""

    def close(self) -> None:
        """Write what TensorBoard's writer holds in memory."""
        if self.writer is not None:
            self.writer.close()


def add_row(table: Path, columns: Sequence[str], values: Mapping[str, Any]) -> None:
    """Append a line to the table."""
    with room_for(table), table.open("a", newline="", encoding="utf-8") as file:
        csv.DictWriter(file, columns).writerow(values)


def continue_table(table: Path, columns: Sequence[str], step: int) -> None:
    """Start the table with its header, or keep the lines up to ``step`` of an existing one.

    Raises:
        UserError: the existing one is damaged.
    """
    kept: list[dict[str, str]] = []
    if table.exists():
        try:
            with table.open(newline="", encoding="utf-8") as file:
                kept = [row for row in csv.DictReader(file) if int(row["step"]) <= step]
        except (ValueError, LookupError, TypeError, csv.Error) as error:
            raise UserError(f"{table} is damaged; remove it, and the run goes on without its lines") from error
    with whole_file(table) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(kept)


def memory_mb() -> float:
    """The most memory used so far, in MB: of the GPU if there is one, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
