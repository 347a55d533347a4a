"""A small trainable: a linear model on made numbers. As a script, it trains in one of several processes."""

import atexit
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn
from torch.utils.data import DataLoader

from botvision.data.loading import evaluation_loader
from botvision.errors import NotFiniteError, UserError
from botvision.training import memory, processes, signals
from botvision.training.config import ExperimentConfig, RunConfig
from botvision.training.farewell import failure_elsewhere
from botvision.training.schedule import cosine_schedule, sgd
from botvision.training.sharing import gather_or_raise, own_share
from botvision.training.trainable import Evaluation, Trainable
from botvision.training.trainer import start
from botvision.version import __version__

FEATURES, IMAGES = 6, 24


class Linear(nn.Module):
    """A linear model behind a batch norm and dropout, with a frozen and an unused layer."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.frozen = nn.Linear(FEATURES, FEATURES).requires_grad_(False)
        self.unused = nn.Linear(FEATURES, FEATURES)
        self.norm = nn.BatchNorm1d(FEATURES, affine=False, momentum=0.01)
        self.out = nn.Sequential(nn.Dropout(dropout), nn.Linear(FEATURES, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(x + 0 * self.norm(self.frozen(x)))[:, 0]


class LinearTask(Trainable):
    """Least squares on 24 made samples, scored on the same ones."""

    columns = ("loss", "error")
    score_columns = ("val_error",)
    images = IMAGES

    def __init__(self, run: RunConfig, *, dropout: float = 0.0, workers: int = 0, scored: bool = True) -> None:
        self.experiment = ExperimentConfig(run=run)
        self.dropout, self.workers, self.scored = dropout, workers, scored
        draw = torch.Generator().manual_seed(0)
        self.x = torch.randn(IMAGES, FEATURES, generator=draw)
        self.y = self.x @ torch.arange(FEATURES).float() + 0.1 * torch.randn(IMAGES, generator=draw)
        self.seen: list[list[int]] = []
        """Samples of each batch."""
        self.dtypes: set[torch.dtype] = set()
        """Of the model's answers in evaluations."""
        self.buffers: list[float] = []
        """Of the model in the last evaluation."""

    def make_model(self) -> Linear:
        return Linear(self.dropout)

    def load_weights(self, model, state):
        model.load_state_dict(state)
        return f"loaded {len(state)} tensors"

    def loader(self, batches) -> DataLoader:
        return DataLoader(Samples(), batch_sampler=batches, num_workers=self.workers, collate_fn=self.collate)

    def collate(self, indices):
        return {"index": indices, "x": self.x[indices], "y": self.y[indices], "size": len(indices), "skipped": []}

    def optimizer(self, model):
        rates = {"lr": 0.05, "batch_size": 1, "reference_batch": 1}
        return sgd(model, **rates, momentum=0.9, weight_decay=1e-4)

    def rate(self, step, steps):
        return cosine_schedule(step, steps, warmup_steps=2)

    def losses(self, model, batch):
        self.seen.append(batch["index"])
        errors = model(batch["x"]) - batch["y"]
        return {"loss": errors.square().mean(), "error": errors.abs().mean()}

    def describe(self):
        return {"task": "linear", "version": "0", "features": FEATURES}

    @torch.no_grad()
    def evaluate(self, model, batch_size, on_image):
        if not self.scored:
            return None
        was_training = model.training
        error = torch.cat(gather_or_raise(lambda: self.errors(model.eval(), on_image))).mean().item()
        model.train(was_training)
        return Evaluation({"error": error}, {"val_error": error}, -error, f"error {error:.3f}", None)

    def errors(self, model, on_image) -> torch.Tensor:
        """The errors of this process's share of the samples."""
        share = own_share(range(IMAGES), 1)
        indices = [share[place] for place in range(len(share))]
        answers = model(self.x[indices])
        self.dtypes.add(answers.dtype)
        self.buffers = model.norm.running_mean.tolist()
        on_image(len(indices), len(indices))
        return (answers.float() - self.y[indices]).abs()

    def write_results(self, folder, evaluation, step):
        folder.mkdir(exist_ok=True)
        (folder / "metrics.json").write_text(json.dumps({"step": step, **evaluation.scores}))


class Samples:
    """The indices of the samples, at their places in the run."""

    def __getitem__(self, place_and_index):
        return place_and_index[1]


class Stalled:
    """One sample that does not come, but a signal."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        os.kill(os.getpid(), signal.SIGUSR1)
        threading.Event().wait()


MODES = ("plain", "nan", "signal", "unreadable", "answers", "evaluation", "continued", "versions")
MODES += ("data", "memory", "stalled", "checkpoint", "missing")
"""What happens in the second process: nothing; NaN in step 4; SIGINT in step 3; two unreadable images in step 3;
answers of NaN in the evaluation at the end; SIGUSR1 in it; nothing, in a run that one process began; another version of
the package; other data; too little memory; an evaluation whose data do not come, and signals to both; an older
checkpoint at the place of the first one's, as on a disk of its own; none there."""
OWN_DISK = ("checkpoint", "missing")


def settings(out: Path) -> RunConfig:
    """Four steps of eight samples, two at once."""
    run = RunConfig(out=out, steps=4, batch_size=8, images_per_device=2, precision="float32", device="cpu", log_every=1)
    return run.replace(save_every=2, eval_every=4)


def train(out: Path, mode: str) -> dict[str, Any]:
    """Train four steps of two batches a process in a folder; what this process saw of it."""
    if mode in OWN_DISK:
        os.chdir(out / os.environ["RANK"])
        out = Path("run")
    task = LinearTask(settings(out))
    losses, collate, errors = task.losses, task.collate, task.errors
    second = os.environ.get("RANK") == "1"

    def disturbed_losses(model, batch):
        found = losses(model, batch)
        if second and mode in ("signal", "lost") and len(task.seen) == 5:
            os.kill(os.getpid(), signal.SIGINT if mode == "signal" else signal.SIGKILL)
        return found | (
            {"loss": found["loss"] * float("nan")} if second and mode == "nan" and len(task.seen) == 8 else {}
        )

    def disturbed_collate(indices):
        bad = second and mode == "unreadable" and len(task.seen) == 5
        return collate(indices) | {"skipped": [("a.png", "cut off"), ("b.png", "cut off")] if bad else []}

    def disturbed_errors(model, on_image):
        if second and mode == "answers":
            raise NotFiniteError("the answer is not finite")
        if mode == "stalled" and second:
            next(iter(evaluation_loader(Stalled(), 1, 0)))
        if mode == "stalled":
            wait_for_signal(on_image, os.getpid())
        if mode == "evaluation":
            wait_for_signal(on_image, os.getpid() if second else None)
        return errors(model, on_image)

    task.losses, task.collate, task.errors = disturbed_losses, disturbed_collate, disturbed_errors
    task.data = lambda: {"training images": "23" if second and mode == "data" else "24"}
    memory.free_memory = lambda: (0 if second else 2**40) if mode == "memory" else None
    processes.__version__ = "0.0.1" if second and mode == "versions" else __version__
    try:
        outcome = start(task, "linear", Console(stderr=True))
        end = {**outcome._asdict(), "folder": str(outcome.folder)}
    except UserError as error:
        end = {"error": str(error)}
    return {**end, "batches": task.seen, "buffers": task.buffers}


def wait_for_signal(on_image, process: int | None) -> None:
    """Go on with an evaluation that does not end by itself; of a process, after a signal to it."""
    if process:
        os.kill(process, signal.SIGUSR1)
    for _ in range(10**6):
        on_image(0, IMAGES)


def write_threads(file: Path) -> None:
    """Write the names of this process's threads, those that are not Python's among them."""
    file.write_text(json.dumps([name.read_text().strip() for name in Path("/proc/self/task").glob("*/comm")]))


if __name__ == "__main__":
    torch.set_num_threads(1)
    memory.free_memory = lambda: None  # as in the fixture of the same purpose
    signals.LONGEST_WAIT = signals.AGAIN = 1.0  # the first process is in the exchange of results by then
    folder = Path(sys.argv[1])
    atexit.register(write_threads, folder / f"{os.environ['RANK']}-threads.json")  # first, so that it is called last
    seen = {mode: train(folder / mode, mode) for mode in MODES}
    (folder / f"{os.environ['RANK']}.json").write_text(json.dumps(seen))
    try:
        train(folder / "lost", "lost")  # which kills the second process in step 3
    except RuntimeError as error:
        (folder / "lost.txt").write_text(str(error))
        (folder / "failure.txt").write_text(str(failure_elsewhere()))
