"""Ctrl-C ends a run after the step in hand, with a checkpoint."""

import os
import signal
from types import FrameType
from typing import Any

import pytorch_lightning as pl

from botvision.training.checkpoints import SaveCheckpoints, stepped
from botvision.training.module import TrainingModule
from botvision.training.processes import first_process


def stand_apart(worker: int) -> None:
    """In a process that reads images: leave the group of the run.

    A terminal's Ctrl-C, `timeout` and schedulers send their signal to the whole group. The run answers it; without the
    processes that read for it, it could not finish its step.
    """
    os.setpgrp()


class StopOnSignal(pl.Callback):
    """On SIGINT or SIGTERM: finish the step, write last.ckpt, stop. A second signal stops at once.

    Args:
        checkpoints: writes the checkpoint.
    """

    def __init__(self, checkpoints: SaveCheckpoints) -> None:
        self.checkpoints = checkpoints
        self.asked = False
        self.stopped = False
        self.before: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the two signals over for the time of the training."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self.before[number] = signal.signal(number, self.receive)

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Remember the first signal and say so; hand a second one to Python."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        if first_process():  # not by print, which a signal may have interrupted in the middle
            os.write(2, b"\nfinishing the step; press again to stop at once\n")

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: TrainingModule, *_: Any) -> None:  # type: ignore[override]  # noqa: ANN401
        """Stop between two steps, all processes at the same one; after the last one there is nothing to stop."""
        if not stepped(trainer) or trainer.global_step >= pl_module.steps:
            return
        if trainer.strategy.reduce_boolean_decision(self.asked, all=False):
            self.checkpoints.save_last(trainer)
            self.stopped = True
            trainer.should_stop = True

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Give the signals back."""
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before.clear()
