"""The interface of a task: what can be trained, and what the command line can do with the result."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch

from botvision.configuration import Config
from botvision.training.config import ExperimentConfig
from botvision.training.trainable import Evaluation, OnImage, Trainable


class Task(Trainable):
    """One folder in ``tasks/`` and one line in ``tasks/registry.py``.

    A task is made from its experiment: that finds the data, and refuses what the user can mend before anything is
    written. The class methods work on trained checkpoints. The loop (``training/trainer.py``) uses the members that
    :class:`~botvision.training.trainable.Trainable` lists.

    Raises:
        UserError: data or settings that the user can mend.
    """

    name: ClassVar[str]
    """Stands in ``config.yaml`` and in checkpoints."""
    config_type: ClassVar[type[ExperimentConfig]]
    """Everything that an experiment of this task is made of."""
    eval_options: ClassVar[type[Config]] = Config
    """Options of ``botvision eval`` for this task, beside those that every task has."""
    predict_options: ClassVar[type[Config]] = Config
    """Options of ``botvision predict`` for this task, beside those that every task has."""

    @abstractmethod
    def __init__(self, experiment: ExperimentConfig) -> None:
        """Find the data."""

    @classmethod
    @abstractmethod
    def evaluate_checkpoint(
        cls,
        checkpoint: Path,
        data: str,
        options: Any,  # noqa: ANN401 (of eval_options)
        *,
        out: Path | None,
        device: torch.device,
        on_image: OnImage,
    ) -> Evaluation:
        """Score a checkpoint on a data set, and write the results into ``out`` where it is given."""

    @classmethod
    @abstractmethod
    def predict_files(
        cls,
        checkpoint: Path,
        files: Sequence[Path],
        options: Any,  # noqa: ANN401 (of predict_options)
        *,
        out: Path,
        device: torch.device,
        on_image: OnImage,
    ) -> list[dict[str, Any]]:
        """Predict on image files: pictures in ``out``, and the predictions as plain data for JSON."""

    @staticmethod
    @abstractmethod
    def tables(scores: dict[str, Any]) -> list[Any]:
        """The scores of an evaluation as rich tables, for a terminal."""
