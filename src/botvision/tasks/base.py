"""The interface of a task: what can be trained, and what the command line can do with the result."""

import logging
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from rich.table import Table
from torch import nn
from torch.utils.data import DataLoader, Dataset

from botvision.data.loading import RunBatches, training_loader
from botvision.data.shard_index import JOINT, is_pattern
from botvision.errors import UserError
from botvision.models import Network
from botvision.tasks.checked import Checked
from botvision.tasks.evaluated import Evaluated
from botvision.tasks.exportable import Exportable
from botvision.tasks.options import CheckOptions
from botvision.tasks.pixel_config import PixelConfig
from botvision.tasks.pixels import PixelModel
from botvision.tasks.prediction import Prediction
from botvision.training.schedule import adamw, sgd
from botvision.training.trainable import Evaluation, OnImage, Trainable

logger = logging.getLogger("botvision")


class AttentionSource(NamedTuple):
    """A network to look into."""

    network: Network
    input_size: int
    """Side, in pixels, that the model gives its test images."""
    side: Callable[[int, int], int]
    """Which side of an image has that size: ``min``, the shorter one, or ``max``."""
    is_trained: bool
    pixels: PixelConfig = PixelConfig()
    """Which images it takes."""


class Trained(Protocol):
    """A trained model; each task has its own kind, which knows what the outputs stand for."""

    @property
    def model(self) -> PixelModel:
        """In test mode."""

    @property
    def names(self) -> Sequence[str]:
        """Of the classes, for people to read."""

    @property
    def path(self) -> Path:
        """The checkpoint."""

    @property
    def pipeline_tag(self) -> str:
        """What the Hugging Face Hub calls its task."""


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
    build: ClassVar[Callable[..., tuple[nn.Module, Any]]]
    """What :meth:`describe` gave -> the model with random weights, and what its outputs stand for."""
    load: ClassVar[Callable[..., Trained]]
    """A checkpoint or run folder, and a device -> the model, in test mode, and what its outputs stand for; errors as in
    :func:`~botvision.checkpoint.load_trained`."""
    predict: ClassVar[Callable[..., Sequence[Prediction]]]
    """What :attr:`load` gave, images of any sizes as they are read, and options of the task by name -> what the model
    says about each image; it sees them at once."""
    result_name: ClassVar[str] = "results"
    """What the entries of :meth:`predict_files` are, in the plural: "objects", "images"."""

    nesterov: ClassVar[bool] = False
    """Whether SGD has Nesterov's momentum."""
    experiment: Any  # of the registry's config_type
    train_set: Dataset
    """The training split; each task makes it."""

    @abstractmethod
    def __init__(self, experiment: Any, *, is_new: bool = True) -> None:  # noqa: ANN401 (of the registry's config_type)
        """Find the data; fields of a new run that depend on them are filled in where they are not given."""

    def announce(self, folder: Path) -> None:
        """Say how large the learning rate is, and where the run is."""
        rate = self.experiment.optimizer.about_lr(self.experiment.run.batch_size)
        logger.info("largest learning rate: %s", rate)
        logger.info("run folder: %s", folder)

    def loader(self, batches: RunBatches) -> DataLoader:
        """Images and targets of the training split."""
        return training_loader(self.train_set, batches, self.experiment.data.workers)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """The optimiser of the experiment, with its settings."""
        config = self.experiment.optimizer
        if config.optimizer == "adamw":
            return adamw(model, lr=config.lr, weight_decay=config.weight_decay)
        return sgd(
            model,
            lr=config.lr,
            batch_size=self.experiment.run.batch_size,
            reference_batch=config.reference_batch,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            nesterov=self.nesterov,
        )

    @classmethod
    @abstractmethod
    def evaluate_checkpoint(cls, checkpoint: Path, data: str, options: Any, on_image: OnImage) -> Evaluation:  # noqa: ANN401 (of eval_options)
        """Score a checkpoint on a data set, and write the results into ``options.out`` where it is given.

        Raises:
            UserError: a checkpoint or data that cannot be used, or data of other classes.
        """

    @classmethod
    @abstractmethod
    def predict_files(
        cls,
        trained: Any,  # noqa: ANN401 (of load)
        files: Sequence[Path],
        options: Any,  # noqa: ANN401 (of predict_options)
        batch_size: int,
        on_image: OnImage,
    ) -> list[dict[str, Any]]:
        """Predict on image files: pictures in ``options.out``, and the predictions as plain data for JSON.

        ``batch_size`` images are predicted on at once, fewer where they are large. Images that cannot be read are left
        out, with a warning.

        Raises:
            UserError: no image can be read, or ``options.out`` is the folder of one.
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
    @abstractmethod
    def write_report(cls, path: Path, runs: Sequence[Evaluated]) -> None:
        """Write a page about evaluations of this task, one or several beside each other, for ``botvision report``."""

    @classmethod
    def has_data(cls, data: str) -> bool:
        """Whether a data set is laid out as one of this task; said without reading it."""
        return False

    @classmethod
    def check_data(cls, data: str, options: CheckOptions, on_image: OnImage) -> Checked:
        """Look at a whole data set, for ``botvision data check``.

        Raises:
            UserError: the task's data cannot be checked (the default), or an option that does not go with them.
        """
        raise UserError(f"{data} is for the task {cls.name}, whose data cannot be checked")

    @classmethod
    def attention_source(cls, trained: Any) -> AttentionSource:  # noqa: ANN401 (of load)
        """The network of a trained model, to look into its attention.

        Raises:
            UserError: the task's models have no network of the catalogue (the default).
        """
        raise UserError(f"{trained.path} is of the task {cls.name}, whose attention cannot be drawn")

    @classmethod
    def exportable(cls, trained: Any) -> Exportable:  # noqa: ANN401 (of load)
        """A trained model, for ``botvision export``.

        Raises:
            UserError: models of the task cannot be exported (the default).
        """
        raise UserError(f"{trained.path} is of the task {cls.name}, whose models cannot be exported")


def absolute(data: Path | str | None) -> Any:  # noqa: ANN401 (as given)
    """The place of data by an absolute path, so that a run can be resumed from any folder; URLs stay as they are.

    Of several patterns of shards, joined by :data:`~botvision.data.shard_index.JOINT`, each part.
    """
    if data is None:
        return None
    parts = str(data).split(JOINT) if is_pattern(str(data)) else [str(data)]
    return type(data)(JOINT.join(part if "://" in part else str(Path(part).absolute()) for part in parts))
