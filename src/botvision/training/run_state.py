"""What a run changes at each step, how it is saved, and how it is evaluated."""

import time
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric
from rich.console import Console
from torch import Tensor, nn

from botvision.data.loading import Batch
from botvision.errors import NotFiniteError, StoppedError, UserError
from botvision.progress import Reporter
from botvision.training.batch_norm import synchronised
from botvision.training.checkpoint import Checkpoints
from botvision.training.curves import draw_curves
from botvision.training.ema import WeightAverage
from botvision.training.metrics import Metrics
from botvision.training.run_folder import read_evaluation
from botvision.training.sharding import load_whole, load_whole_optimizer, local, shard_like, whole, whole_weights
from botvision.training.sharing import StopFlag, on_every_process, on_first_process
from botvision.training.signals import StopSignals
from botvision.training.skipped_images import SkippedImages
from botvision.training.trainable import Evaluation, Trainable


class BatchBox:
    """Holds a batch. Fabric rounds the tensors that it finds in a network's arguments to bfloat16, boxes included."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch


class LossModule(nn.Module):
    """The losses of a task as one forward pass: DDP needs exactly one a batch, however often a task calls it."""

    def __init__(self, task: Trainable, model: nn.Module) -> None:
        super().__init__()
        self.task = task
        self.model = model

    def forward(self, box: BatchBox) -> dict[str, Tensor]:
        """The losses of a batch; only "loss" has a gradient."""
        losses = self.task.losses(self.model, box.batch)
        return {name: value if name == "loss" else value.detach() for name, value in losses.items()}


class RunState:
    """The network of a run with its optimiser, average, counts and files.

    ``content`` is the checkpoint to continue from; None starts with the first step.

    Raises:
        UserError: the checkpoint has no average of the weights, and the run keeps one.
    """

    def __init__(
        self,
        task: Trainable,
        model: nn.Module,
        folder: Path,
        content: dict[str, Any] | None,
        fabric: Fabric,
        console: Console,
    ) -> None:
        run = task.experiment.run
        self.task, self.folder, self.fabric = task, folder, fabric
        self.data = task.data()  # once: of millions of images it takes seconds
        self.steps = run.total_steps(task.images)
        self.images_at_once = run.images_at_once(fabric.world_size)
        self.batches_per_step = run.batch_size // (self.images_at_once * fabric.world_size)
        self.step = content["step"] if content else 0
        self.evaluated = evaluated_step(content, folder) if content else 0
        self.best = content["best"] if content else float("-inf")
        self.scores: dict[str, Any] | None = None
        counts = content["skipped"] if content else {"seen": 0, "bad": {}}
        self.skipped = SkippedImages.shared(task.images, **counts, rank=fabric.global_rank, world=fabric.world_size)
        self.prepare_network(model)
        if content:
            self.load(content)
        in_doubt = self.evaluated < self.step
        self.checkpoints = Checkpoints(folder / "checkpoints", run.keep_checkpoints, self.step, in_doubt=in_doubt)
        if fabric.is_global_zero and content and not self.checkpoints.has_best():
            self.best = float("-inf")
        line = content.get("line") if content else None
        self.metrics = Metrics(folder, task, self.step, self.evaluated, line, writes=fabric.is_global_zero)
        self.console = console if fabric.is_global_zero else Console(quiet=True)
        self.reporter = Reporter(self.console)

    def prepare_network(self, model: nn.Module) -> None:
        """Move the network to the device, and make its average, its optimiser and its distributed form."""
        run, device = self.task.experiment.run, self.fabric.device
        self.model = model.to(device).train()  # the network itself knows which frozen parts stay in test mode
        self.average = None if run.ema_decay is None else WeightAverage(self.model, run.ema_decay)
        if self.fabric.world_size > 1:
            self.model = synchronised(self.model, device)
        if run.compile:
            self.task.compiled_part(self.model).compile()  # in place: the names of the weights stay
        self.losses = self.fabric.setup_module(LossModule(self.task, self.model))
        if self.average:
            shard_like(self.average.model, self.model)
        self.optimizer = self.task.optimizer(self.model)  # after FSDP has replaced the weights by their parts
        for group in self.optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        self.fabric_optimizer: Any = self.fabric.setup_optimizers(self.optimizer)

    def load(self, content: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        load_whole(self.model, content["state_dict"])
        load_whole_optimizer(self.optimizer, content["optimizer"])
        if self.average:
            if "ema_state_dict" not in content:
                raise UserError("the checkpoint has no average of the weights, and ema_decay of its run asks for one")
            load_whole(self.average.model, content["ema_state_dict"])

    def content(self) -> dict[str, Any]:
        """The run as it is now, as a checkpoint that any number of processes can read; all have to call it.

        The step says which images come next and at which learning rate, and random numbers follow from it and the seed
        of the run; so nothing of them is in it, and it serves any number of processes.
        """
        content = {
            "botvision": self.task.describe(),
            "data": self.data,
            "images_at_once": self.images_at_once * self.fabric.world_size,
            "step": self.step,
            "evaluated": self.evaluated,
            "line": self.metrics.line,
            "state_dict": whole(self.model.state_dict()),
            "optimizer": whole(self.optimizer.state_dict()),
            "best": self.best,
            "skipped": self.skipped.of_all(),
        }
        if self.average:
            content["ema_state_dict"] = whole(self.average.model.state_dict())
        return content

    def set_rate(self, factor: float) -> None:
        """Set the learning rate of the next step."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor

    def save(self) -> None:
        """Write ``last.ckpt``, unless it is of this step already."""
        if self.checkpoints.step != self.step:
            content = self.content()
            on_first_process(lambda: self.checkpoints.save_last(content))
            self.checkpoints.step = self.step  # on the other processes too

    def evaluate(self, signals: StopSignals) -> None:
        """Score the network as it is now in the run's precision, and record the scores; do nothing without evaluation.

        Raises:
            NotFiniteError: its weights, or its answers, are infinite or NaN.
            StoppedError: a process was asked to stop.
        """
        started, stop = time.perf_counter(), StopFlag()

        def on_image(done: int, total: int) -> None:
            self.reporter.show("evaluating, image", done, total)
            if stop.is_raised(signals.asked):
                raise StoppedError(f"stopped in the evaluation after step {self.step}")

        model = self.average.model if self.average else self.model
        on_every_process(lambda: check_weights(model))  # a detector with such weights would only score badly
        with self.fabric.autocast(), whole_weights(model):
            evaluation = self.task.evaluate(model, self.images_at_once, on_image)
        if evaluation is not None:
            self.scores = evaluation.scores
        is_best = evaluation is not None and evaluation.best > self.best
        if evaluation is not None and is_best:
            self.best = evaluation.best
        self.evaluated = self.step
        content = self.content()
        on_first_process(lambda: self.record(evaluation, content, started, is_best=is_best))

    def record(self, evaluation: Evaluation | None, content: dict[str, Any], started: float, *, is_best: bool) -> None:
        """Write what an evaluation found, and keep the network as the best one if it is. On the first process.

        A run that is killed meanwhile evaluates again, because ``last.ckpt`` is the last to say that it has.
        """
        if is_best:
            self.checkpoints.save_best(content)
        self.checkpoints.confirm()
        if evaluation is not None:
            pictures = self.task.draw_results(self.folder / "pictures" / f"step-{self.step}", evaluation)
            self.metrics.show_pictures(self.step, pictures)
            self.metrics.write_scores(self.step, evaluation.columns, time.perf_counter() - started)
            draw_curves(self.folder)
            self.task.write_results(self.folder / "eval", evaluation, self.step)
            self.console.print(f"step {self.step}: {evaluation.text}", highlight=False, soft_wrap=True)
        self.checkpoints.save_last(content)


def evaluated_step(content: dict[str, Any], folder: Path) -> int:
    """The step of the last evaluation that is complete, by a checkpoint; earlier versions did not write it there."""
    if "evaluated" in content:
        return content["evaluated"]
    return min(content["step"], read_evaluation(folder).get("step", 0))


def check_weights(model: nn.Module) -> None:
    """Raise a NotFiniteError that names the first weight or buffer that is infinite or NaN."""
    for name, value in model.state_dict().items():
        if not local(value).isfinite().all():
            raise NotFiniteError(f"the weights have blown up: {name} is not finite")
