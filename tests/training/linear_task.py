"""A small trainable: a linear model on made numbers. As a script, it trains in the processes that torchrun starts."""

import json
import sys
from pathlib import Path

import torch
from rich.console import Console
from torch import nn
from torch.utils.data import DataLoader

from botvision.training.config import ExperimentConfig, RunConfig
from botvision.training.schedule import cosine_schedule, sgd
from botvision.training.trainable import Evaluation, Trainable
from botvision.training.trainer import start

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
        answers = model.eval()(self.x.to(next(model.parameters()).device))
        model.train(was_training)
        self.dtypes.add(answers.dtype)
        error = (answers.float().cpu() - self.y).abs().mean().item()
        on_image(IMAGES, IMAGES)
        return Evaluation({"error": error}, {"val_error": error}, -error, f"error {error:.3f}", answers.tolist())

    def write_results(self, folder, evaluation, step):
        folder.mkdir(exist_ok=True)
        (folder / "metrics.json").write_text(json.dumps({"step": step, **evaluation.scores}))


class Samples:
    """The indices of the samples, at their places in the run."""

    def __getitem__(self, place_and_index):
        return place_and_index[1]


def main(out: str, rank_of_nan: str) -> None:
    """Train in a folder; the losses of the process of this rank become NaN in the third step."""
    torch.set_num_threads(1)
    task = LinearTask(RunConfig(out=Path(out), steps=4, batch_size=8, precision="float32", device="cpu", log_every=1))
    losses = task.losses

    def diverging(model, batch):
        found = losses(model, batch)
        is_nan = torch.distributed.get_rank() == int(rank_of_nan) and len(task.seen) == 3
        return found | {"loss": found["loss"] * (float("nan") if is_nan else 1)}

    task.losses = diverging
    start(task, "linear", Console(stderr=True))


if __name__ == "__main__":
    main(*sys.argv[1:])
