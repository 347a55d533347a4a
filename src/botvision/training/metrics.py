"""The numbers of a run: two tables, TensorBoard and the progress line. Only the first process writes them."""

import csv
import logging
import os
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

from botvision.errors import printable
from botvision.files import room_for, whole_file
from botvision.training.trainable import Trainable

logger = logging.getLogger("botvision")

COLUMNS = ("step", "time", "epoch", "lr", "images_per_second", "data_wait", "memory_mb")
"""What every run has in ``metrics.csv``, before the losses of its task."""
PROGRESS = "loss {loss:.3f}, {images_per_second:.1f} images/s, {data_wait:.0%} of the time waiting for data"


class Metrics:
    """Writes a line of losses to ``metrics.csv`` when it is asked to, and of scores to ``evaluations.csv``.

    ``time`` is when the line was written, in UTC. Losses are means over the steps since the line before. ``data_wait``
    is the share of the time since then that went by waiting for the loader. ``memory_mb`` is the most memory used so
    far, of the GPU or of the process.

    Args:
        folder: of the run.
        task: what it trains.
        step: steps done; of a resumed run, the lines of losses after it are removed.
        evaluated: the step of the last evaluation; of a resumed run, the lines of scores after it are removed.
        line: what :attr:`line` was of the line of losses that a resumed run has begun.
        writes: whether this process writes the files.
    """

    def __init__(
        self, folder: Path, task: Trainable, step: int, evaluated: int, line: dict[str, Any] | None, *, writes: bool
    ) -> None:
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
        if line:
            self.since, self.sums = line["since"], dict(line["sums"])
        if writes:
            continue_table(self.losses_table, self.tables[self.losses_table], step)
            continue_table(self.scores_table, self.tables[self.scores_table], evaluated)
            self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def start_line(self, step: int) -> None:
        """Start to count for a new line, after so many steps."""
        self.since, self.sums = step, dict[str, float]()
        self.timed_since, self.started, self.waited = step, time.perf_counter(), 0.0

    @property
    def line(self) -> dict[str, Any]:
        """The line of losses that has begun: the step that it follows, and the sums of the losses since then."""
        return {"since": self.since, "sums": dict(self.sums)}

    def add(self, losses: Mapping[str, float]) -> None:
        """Add the losses of a step."""
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def write_losses(self, step: int, lr: float) -> None:
        """Write the line of a step, and start the next one."""
        seconds, steps = time.perf_counter() - self.started, step - self.since
        speed = (step - self.timed_since) * self.images_per_step / seconds
        self.latest = {
            "epoch": round(step * self.images_per_step / self.images_per_epoch, 4),
            "lr": lr,
            "images_per_second": speed,
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
    """Append a line to the table, and wait until it is on the disk."""
    with room_for(table), table.open("a", newline="", encoding="utf-8") as file:
        csv.DictWriter(file, columns).writerow(values)
        file.flush()
        os.fsync(file.fileno())


def continue_table(table: Path, columns: Sequence[str], step: int) -> None:
    """Start the table with its header, or keep the lines up to ``step`` of an existing one.

    Lines that a crash has damaged (cut off, or zeros where they were not on the disk yet) are left out with a warning.
    """
    kept, damaged = whole_rows(table, columns) if table.exists() else ([], 0)
    if damaged:
        logger.warning("%s: left out %d damaged line(s)", table, damaged)
    with whole_file(table, durable=True) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(row for row in kept if int(row["step"]) <= step)


def whole_rows(table: Path, columns: Sequence[str]) -> tuple[list[dict[str, str]], int]:
    """The rows of a table that are whole, and how many lines are not; a damaged header counts as the right one."""
    header, *lines = table.read_text(encoding="utf-8", errors="replace").split("\n")
    names = header.split(",") if "step" in header.split(",") else columns
    whole = [line for line in lines[:-1] if line.isprintable() and "\ufffd" not in line]  # the last one has no end
    cells = [line.split(",") for line in whole]
    rows = [dict(zip(names, row, strict=True)) for row in cells if len(row) == len(names)]
    kept = [row for row in rows if row["step"].isdecimal() and row["step"].isascii()]
    return kept, len(list(filter(None, lines))) - len(kept)


def memory_mb() -> float:
    """The most memory used so far, in MB: of the GPU if there is one, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
