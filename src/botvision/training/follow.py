"""A callback that follows a run: reports each step, and evaluates when it is due."""

import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import nn

from botvision.errors import NotFiniteError
from botvision.training.checkpoints import SaveCheckpoints, stepped
from botvision.training.metrics import Metrics
from botvision.training.module import TrainingModule
from botvision.training.progress import Reporter
from botvision.training.settings import evaluate_every
from botvision.training.task import Task

PROGRESS = "loss {loss:.3f}, {images_per_second:.1f} images/s, {data_wait:.0%} of the time waiting for data"


class Follow(pl.Callback):
    """Evaluates when it is due, writes what came out, and tells the reporter how far the run is.

    Args:
        folder: of the run.
        task: what is trained.
        steps: of the whole run; the last one evaluates whatever the interval.
        batch_size: images that a device takes at once.
        metrics, checkpoints, reporter: told what came out.
    """

    def __init__(
        self,
        folder: Path,
        task: Task,
        steps: int,
        batch_size: int,
        metrics: Metrics,
        checkpoints: SaveCheckpoints,
        reporter: Reporter,
    ) -> None:
        self.folder = folder
        self.task = task
        self.every = evaluate_every(task.experiment, len(task.train_set))
        self.steps = steps
        self.batch_size = batch_size
        self.metrics = metrics
        self.checkpoints = checkpoints
        self.reporter = reporter
        self.scores: dict[str, Any] | None = None

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: TrainingModule, *_: Any) -> None:  # type: ignore[override]  # noqa: ANN401
        """Report the step; evaluate after it when it is due, behind a checkpoint, because an evaluation can fail."""
        if not stepped(trainer):
            return
        step, latest = trainer.global_step, self.metrics.latest
        if trainer.is_global_zero:
            text = PROGRESS.format_map(latest) if latest else ""
            self.reporter.show("training, step", step, self.steps, text)
        if step % self.every == 0 or step == self.steps:
            self.checkpoints.save_last(trainer)
            self.evaluate(trainer, pl_module)

    def evaluate(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        """Score the model as it is now, and keep it as the best one if it is.

        Raises:
            NotFiniteError: its weights, or its answers, are infinite or no numbers.
        """
        started = time.perf_counter()
        model = module.scored_model
        check_weights(model)  # a detector of such weights finds nothing, and would only score badly
        evaluation = self.task.evaluate(
            model,
            self.batch_size,
            lambda done, total: self.reporter.show("evaluating, image", done, total),
        )
        self.scores = evaluation.scores
        self.metrics.evaluated(trainer, evaluation.columns, time.perf_counter() - started)
        self.checkpoints.save_best(trainer, evaluation.best)
        self.checkpoints.trust_last(trainer)
        if trainer.is_global_zero:  # last of all: it says that the evaluation is complete
            self.task.write(self.folder / "eval", evaluation, trainer.global_step)
            self.reporter.console.print(
                f"step {trainer.global_step}: {evaluation.text}", highlight=False, soft_wrap=True
            )


def check_weights(model: nn.Module) -> None:
    """Raise a NotFiniteError that names the first weight, or statistic, that is infinite or no number."""
    for name, value in model.state_dict().items():
        if not value.isfinite().all():
            raise NotFiniteError(f"the weights have blown up: {name} is not finite")
