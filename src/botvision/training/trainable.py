"""What the training loop needs of a task. The tasks themselves are in ``botvision.tasks``."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from botvision.data.loading import Batch, RunBatches
from botvision.training.config import ExperimentConfig

OnImage = Callable[[int, int], None]
"""Called with the number of images that are done, and of all."""


class Evaluation(NamedTuple):
    """What an evaluation found."""

    scores: dict[str, Any]
    """As written to eval/metrics.json."""
    columns: dict[str, float | None]
    """The scores for evaluations.csv, by the names in ``score_columns``; None where nothing can be measured."""
    best: float
    """The score that decides which checkpoint is the best; higher is better."""
    text: str
    """A short text with the scores."""
    results: Any
    """What was found in each image, for :meth:`Trainable.write_results`."""
    analysis: dict[str, Any] = {}  # noqa: RUF012 (never changed)
    """What a page about the evaluation shows beside the scores, as plain data."""


class Trainable(ABC):
    """An experiment with its data: what the loop of ``training/trainer.py`` trains.

    A batch is a dictionary that the loop passes from :meth:`loader` to :meth:`losses` without looking inside, but for
    two entries: "size", the number of images in it, and "skipped", [(path, reason)] of images that could not be read. A
    task may therefore have several views of an image, no labels, and no evaluation.
    """

    experiment: ExperimentConfig
    columns: tuple[str, ...]
    """What :meth:`losses` gives, in the order of metrics.csv; "loss" comes first."""
    score_columns: tuple[str, ...] = ()
    """What an evaluation writes to evaluations.csv."""
    images: int
    """Number of training images."""

    def data(self) -> dict[str, str]:
        """What its data are, by what they are for: counts, and digests that change where other images do.

        All processes of a run have to have the same, and a run that goes on the same as before.
        """
        return {"training images": str(self.images)}

    def announce(self, folder: Path) -> None:  # noqa: B027 (optional)
        """Say at the start of a run in this folder what it trains on. Only the first process calls it."""

    @abstractmethod
    def make_model(self) -> nn.Module:
        """The network with random weights."""

    @abstractmethod
    def load_weights(self, model: nn.Module, state: dict[str, Tensor]) -> str:
        """Load initial weights, and report in one line what was loaded, adapted and left at random.

        Raises:
            UserError: weights that do not fit, or frozen parts that they do not contain.
        """

    @abstractmethod
    def loader(self, batches: RunBatches) -> DataLoader:
        """The training batches of this process, in the order that ``batches`` says."""

    @abstractmethod
    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """The optimiser at its full learning rate."""

    @abstractmethod
    def rate(self, step: int, steps: int) -> float:
        """The factor on the full learning rate after ``step`` of ``steps`` optimiser steps."""

    @abstractmethod
    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """A training batch -> one number for each of :attr:`columns`; the gradient is that of "loss"."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What a checkpoint needs beside its weights to be used anywhere, as plain data."""

    def compiled_part(self, model: nn.Module) -> nn.Module:
        """The part of the network that ``compile`` compiles; all of it by default."""
        return model

    def after_step(self, model: nn.Module, step: int) -> None:  # noqa: B027 (optional)
        """Called after each optimiser step (1 is the first), for example to update a teacher."""

    def evaluate(self, model: nn.Module, batch_size: int, on_image: OnImage) -> Evaluation | None:
        """Score a network on the validation images; None where the task has no evaluation.

        ``on_image`` can raise: where several processes evaluate, it is called inside ``sharing.gather_or_raise``.
        """
        return None

    def write_results(self, folder: Path, evaluation: Evaluation, step: int) -> None:  # noqa: B027 (optional)
        """Write the scores and results of an evaluation into a folder."""

    def draw_results(self, folder: Path, evaluation: Evaluation) -> list[Path]:
        """Draw a few results of an evaluation into a folder; gives the files, none by default."""
        return []
