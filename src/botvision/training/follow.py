"""A callback that follows a run: reports each step, and evaluates when it is due."""

import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from botvision.data import CocoDetection
from botvision.evaluation import evaluate_detector
from botvision.training.checkpoints import SaveCheckpoints, stepped
from botvision.training.metrics import Metrics
from botvision.training.module import DetectionModule
from botvision.training.progress import Reporter
from botvision.training.run_folder import write_evaluation


class Follow(pl.Callback):
    """Evaluates when it is due, writes what came out, and tells the reporter how far the run is.

    Args:
        folder: of the run.
        dataset: to evaluate on.
        every: steps between two evaluations; the last step always evaluates.
        steps: of the whole run.
        batch_size: images that a device takes at once.
        metrics, checkpoints, reporter: told what came out.
    """

    def __init__(
        self,
        folder: Path,
        dataset: CocoDetection,
        every: int,
        steps: int,
        batch_size: int,
        metrics: Metrics,
        checkpoints: SaveCheckpoints,
        reporter: Reporter,
    ) -> None:
        self.folder = folder
        self.dataset = dataset
        self.every = every
        self.steps = steps
        self.batch_size = batch_size
        self.metrics = metrics
        self.checkpoints = checkpoints
        self.reporter = reporter
        self.scores: dict[str, Any] | None = None

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: DetectionModule, *_: Any) -> None:  # type: ignore[override]  # noqa: ANN401
        """Report the step; evaluate after it when it is due, behind a checkpoint, because an evaluation can fail."""
        if not stepped(trainer):
            return
        step, latest = trainer.global_step, self.metrics.latest
        if trainer.is_global_zero:
            text = "loss {loss:.3f}, {images_per_second:.1f} images/s".format_map(latest) if latest else ""
            self.reporter.show("training, step", step, self.steps, text)
        if step % self.every == 0 or step == self.steps:
            self.checkpoints.save_last(trainer)
            self.evaluate(trainer, pl_module)

    def evaluate(self, trainer: pl.Trainer, module: DetectionModule) -> None:
        """Score the model as it is now, and keep it as the best one if it is."""
        started = time.perf_counter()
        self.scores, results = evaluate_detector(
            module.model,
            self.dataset,
            batch_size=self.batch_size,
            workers=module.experiment.data.workers,
            on_image=lambda done, total: self.reporter.show("evaluating, image", done, total),
        )
        self.metrics.evaluated(trainer, self.scores, time.perf_counter() - started)
        if trainer.is_global_zero:
            write_evaluation(self.folder / "eval", self.scores, results, step=trainer.global_step)
            box, mask = self.scores["box"], self.scores["mask"]
            self.reporter.console.print(
                f"step {trainer.global_step}: box AP {box['ap']:.3f} (AP50 {box['ap50']:.3f}), "
                f"mask AP {mask['ap']:.3f} (AP50 {mask['ap50']:.3f})",
                highlight=False,
            )
        self.checkpoints.save_best(trainer, self.scores["mask"]["ap"])
