"""What tells one kind of training from another; everything else, from the run folder to the signals, is shared."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from botvision.checkpoint import Kind
from botvision.data.loading import Batch
from botvision.models import LoadReport
from botvision.training.schedule import sgd


class Evaluation(NamedTuple):
    """What an evaluation found."""

    scores: dict[str, Any]
    """As printed, and written as eval/metrics.json."""
    results: list[dict[str, Any]]
    """What was found in each image."""
    columns: dict[str, float]
    """The scores that go into metrics.csv."""
    best: float
    """The one of them that decides which checkpoint is the best, higher is better."""
    text: str
    """All in a few words."""


class Task(ABC):
    """An experiment with its data: what is trained, and how it is scored.

    Raises:
        UserError: data, or settings, that the user can mend; nothing is written yet.
    """

    kind: Kind
    experiment: Any
    train_set: Any
    """A data set, with a length."""
    val_set: Any
    columns: tuple[str, ...]
    """What :meth:`losses` gives, in the order of metrics.csv; "loss" comes first."""
    score_columns: tuple[str, ...]
    """What an evaluation adds to metrics.csv."""
    ema_decay: float | None = None
    """Of an average of the weights, by which the network is scored; None keeps none."""

    @abstractmethod
    def __init__(self, experiment: Any) -> None:  # noqa: ANN401 (of the task's own kind)
        """Find the data."""

    @abstractmethod
    def description(self) -> dict[str, Any]:
        """What a checkpoint has to say of itself."""

    @abstractmethod
    def make_model(self) -> nn.Module:
        """The network, at random."""

    @abstractmethod
    def start_from(self, model: nn.Module, state: dict[str, Tensor]) -> LoadReport:
        """Put initial weights where they belong.

        Raises:
            UserError: weights that do not fit, or parts frozen that they do not hold.
        """

    @abstractmethod
    def to_compile(self, model: nn.Module) -> nn.Module:
        """The part of the network that --compile compiles."""

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """SGD as the experiment sets it, at its full learning rate."""
        return sgd(model, self.experiment.optimizer, self.experiment.run.batch_size)

    @abstractmethod
    def rate(self, step: int, steps: int) -> float:
        """The share of the full learning rate after so many steps of a run."""

    @abstractmethod
    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """A training batch -> :attr:`columns`, each a number; gradients are taken of "loss"."""

    @abstractmethod
    def evaluate(self, model: nn.Module, batch_size: int, on_image: Callable[[int, int], None]) -> Evaluation:
        """Score a network on the images to evaluate on."""

    @abstractmethod
    def write(self, folder: Path, evaluation: Evaluation, step: int) -> None:
        """Write scores and results."""


def first_at_random(report: LoadReport, parts: Iterable[str]) -> str | None:
    """The first tensor in some parts of a network that was not loaded; the counts of batch norms do not matter."""
    starts = tuple(f"{part}." for part in parts)
    names = (name for name in report.at_random if not name.endswith("num_batches_tracked"))
    return next((name for name in names if name.startswith(starts)), None)
