"""The interface of a task: what can be trained, and what the command line can do with the result."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from rich.table import Table

from botvision.configuration import Config, Count, CountOrZero
from botvision.errors import UserError
from botvision.models import Network
from botvision.training.config import ExperimentConfig
from botvision.training.trainable import Evaluation, OnImage, Trainable


class EvalOptions(Config):
    """What every evaluation of a checkpoint can be told."""

    split: str = "val"
    """Split to evaluate on; also test, where there is such a folder."""
    images: Count | None = None
    """Evaluate on so many images alone."""
    batch_size: Count | None = None
    """Images at once."""
    workers: CountOrZero = 1
    """Processes that read images; 0 reads them in the evaluating process."""


class PredictOptions(Config):
    """What a prediction on image files can be told; each task adds its own fields."""


class AttentionSource(NamedTuple):
    """A network to look into."""

    network: Network
    input_size: int
    """Side, in pixels, that the model gives its test images."""
    side: Callable[[int, int], int]
    """Which side of an image has that size: ``min``, the shorter one, or ``max``."""
    is_trained: bool


class Task(Trainable):
    """One folder in ``tasks/`` and one line in ``tasks/registry.py``.

    A task is made from its experiment: this finds the data, and refuses what the user can fix before anything is
    written. The class methods work on trained checkpoints. The loop (``training/trainer.py``) uses the members that
    :class:`~botvision.training.trainable.Trainable` lists.

    Raises:
        UserError: data or settings that the user can fix.
    """

    name: ClassVar[str]
    """Stands in ``config.yaml`` and in checkpoints."""
    config_type: ClassVar[type[ExperimentConfig]]
    """Everything that an experiment of this task is made of."""
    eval_options: ClassVar[type[EvalOptions]] = EvalOptions
    """Options of ``botvision eval`` for this task."""
    predict_options: ClassVar[type[PredictOptions]] = PredictOptions
    """Options of ``botvision predict`` for this task."""
    result_name: ClassVar[str] = "results"
    """What the entries of :meth:`predict_files` are, in the plural: "objects", "images"."""

    @abstractmethod
    def __init__(self, experiment: Any) -> None:  # noqa: ANN401 (of config_type)
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
        """Score a checkpoint on a data set, and write the results into ``out`` where it is given.

        Raises:
            UserError: a checkpoint or data that cannot be used, or data of other classes.
        """

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
        """Predict on image files: pictures in ``out``, and the predictions as plain data for JSON.

        Images that cannot be read are left out, with a warning.

        Raises:
            UserError: no image can be read, or ``out`` is the folder of one.
        """

    @staticmethod
    @abstractmethod
    def tables(scores: dict[str, Any], options: Any = None) -> list[Table]:  # noqa: ANN401 (of eval_options)
        """The scores of an evaluation as rich tables, for a terminal; without options as after a training run."""

    @staticmethod
    def prediction_tables(results: list[dict[str, Any]]) -> list[Table]:
        """What :meth:`predict_files` gave as rich tables, for a terminal; none by default."""
        return []

    @classmethod
    def attention_source(cls, checkpoint: Path, device: torch.device) -> AttentionSource:
        """The network of a checkpoint, for ``botvision attend``.

        Raises:
            UserError: the task's models have no network of the catalogue (the default).
        """
        raise UserError(f"{checkpoint} is of the task {cls.name}, whose attention cannot be drawn")


def absolute(data: Path | str | None) -> Any:  # noqa: ANN401 (as given)
    """The place of data by an absolute path, so that a run can be resumed from any folder; URLs stay as they are."""
    if data is None or "://" in str(data):
        return data
    return type(data)(Path(data).absolute())
