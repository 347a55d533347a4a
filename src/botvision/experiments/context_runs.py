"""Trains what is missing of the table of :mod:`botvision.experiments.context`, several cells at a time."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import torch
from rich.console import Console

from botvision.data.context_scenes import write_context_coco
from botvision.errors import UserError
from botvision.experiments.catalogue import EXPERIMENTS
from botvision.experiments.context import DETECT, ROWS, Cell, ContextRecipe, Results
from botvision.experiments.context_training import train_cell
from botvision.tasks.detection.config import DetectionExperiment
from botvision.tasks.detection.task import DetectionTask
from botvision.training import trainer

TRAIN_IMAGES, VAL_IMAGES = 4000, 200
"""Of the detectors' data set."""

OnCell = Callable[[int, int], None]
"""Is told how many of how many cells are done."""


def run_context(results: Results, cells: Sequence[Cell], jobs: int, device: torch.device, on_cell: OnCell) -> None:
    """Train the cells that ``results`` lacks; each is kept as soon as it is done, so that a later call goes on.

    Args:
        results: of earlier calls; it is filled.
        cells: what to train, in this order.
        jobs: processes at a time, of one thread each; 1 trains in this process, with PyTorch's threads.
        device: where to train; on a GPU the processes share it.
        on_cell: shows progress.
    """
    missing = [cell for cell in cells if cell not in results.cells]
    folder = results.file.parent
    if any(cell.column == DETECT for cell in missing):
        detector_data(folder)  # before there are several processes that would write it
    if jobs == 1 or len(missing) < 2:
        for done, cell in enumerate(missing, start=1):
            results.add(cell, train(cell, results.recipe, folder, device))
            on_cell(done, len(missing))
        return
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), torch.set_num_threads, (1,))
    try:
        running = {pool.submit(train, cell, results.recipe, folder, device): cell for cell in missing}
        for done, future in enumerate(as_completed(running), start=1):
            results.add(running[future], future.result())
            on_cell(done, len(missing))
    finally:
        pool.shutdown(cancel_futures=True)


def cells_of(rows: Sequence[str], columns: Sequence[str], seeds: int) -> list[Cell]:
    """The cells of some rows and columns, one seed after the other; not every row has a detector."""
    chosen = product(range(seeds), columns, rows)
    return [Cell(row, column, seed) for seed, column, row in chosen if column != DETECT or ROWS[row].detector]


def train(cell: Cell, recipe: ContextRecipe, folder: Path, device: torch.device) -> dict[str, float]:
    """Train one cell; a detector's run and its data go into the folder."""
    return train_detector(cell, folder, device) if cell.column == DETECT else train_cell(cell, recipe, device)


def detector_data(folder: Path) -> Path:
    """The detectors' data set, written where it is not there yet."""
    return write_context_coco(folder / "data", scene="what", train_images=TRAIN_IMAGES, val_images=VAL_IMAGES, seed=0)


def train_detector(cell: Cell, folder: Path, device: torch.device) -> dict[str, float]:
    """Train a detector by its experiment, or go on with its run, and give its AP50.

    Raises:
        UserError: it was stopped by a signal.
    """
    begin, name = time.perf_counter(), ROWS[cell.row].detector or ""
    data = detector_data(folder)
    config, out = EXPERIMENTS[name].config, folder / "detectors" / f"{cell.row}-seed{cell.seed}"
    assert isinstance(config, DetectionExperiment)
    run = config.run.replace(out=out, seed=cell.seed, device=device.type)
    task = DetectionTask(config.replace(data=config.data.replace(data=data), run=run))
    outcome = trainer.start(task, name, Console(quiet=True))
    if outcome.stopped or outcome.scores is None:
        raise UserError(f"{out} was stopped; the same command goes on with it")
    return {"score": outcome.scores["box"]["ap50"], "seconds": round(time.perf_counter() - begin, 1)}
