"""The list of tasks, and which of them a checkpoint or a run belongs to.

Settings and options are here without PyTorch; the tasks themselves, which need it, are imported when they are used.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from botvision.configuration import FieldError
from botvision.errors import UserError
from botvision.files import no_folder, what_is_in
from botvision.tasks.classification.config import ClassificationExperiment
from botvision.tasks.classification.options import ClassificationEvalOptions, ClassificationPredictOptions
from botvision.tasks.detection.config import DetectionExperiment
from botvision.tasks.detection.options import DetectionEvalOptions, DetectionPredictOptions
from botvision.tasks.options import EvalOptions, PredictOptions
from botvision.training.config import ExperimentConfig
from botvision.training.run_folder import RunRecord, read_config

if TYPE_CHECKING:
    from botvision.tasks.base import Task


class TaskEntry(NamedTuple):
    """One entry of the list."""

    class_name: str
    """Of the task, in the module ``task`` of its folder, which has the task's name."""
    config_type: type[ExperimentConfig]
    """Everything that an experiment of this task is made of."""
    data: str
    """What its data sets hold, in the words of messages."""
    examples: str
    """Experiments of this task that a user may begin with."""
    eval_options: type[EvalOptions] = EvalOptions
    """Options of ``botvision eval`` for this task."""
    predict_options: type[PredictOptions] = PredictOptions
    """Options of ``botvision predict`` for this task."""


TASKS = {
    "detection": TaskEntry(
        "DetectionTask",
        DetectionExperiment,
        "annotated images",
        "finetune/botnet50 and small/botnet50",
        DetectionEvalOptions,
        DetectionPredictOptions,
    ),
    "classification": TaskEntry(
        "ClassificationTask",
        ClassificationExperiment,
        "images of classes",
        "imagenet/botnet50 and imagenet/resnet50",
        ClassificationEvalOptions,
        ClassificationPredictOptions,
    ),
}
"""Every task by its name."""


def entry_named(name: str) -> TaskEntry:
    """The entry of a name.

    Raises:
        FieldError: there is none; the known ones are named.
    """
    if name not in TASKS:
        raise FieldError(("task",), f"should be one of {', '.join(TASKS)}, got {name!r}")
    return TASKS[name]


def task_named(name: str) -> "type[Task]":
    """The task of a name; errors as :func:`entry_named`."""
    entry = entry_named(name)
    return getattr(import_module(f"botvision.tasks.{name}.task"), entry.class_name)


def task_of_data(data: str) -> "type[Task]":
    """The first task that a data set is laid out for.

    Raises:
        UserError: none; what is there is named.
    """
    found = next((task for task in map(task_named, TASKS) if task.has_data(data)), None)
    if found is None:
        if not Path(data).is_dir():
            raise UserError(f"{data}: {no_folder(Path(data))}")
        from botvision.data.class_folders import split_advice  # here, as it imports PyTorch

        raise UserError(
            f"{data}: holds neither annotated images in a known layout nor train/ and val/ with a folder for each "
            f"class (it holds {what_is_in(Path(data))}){split_advice(Path(data))}"
        )
    return found


@contextmanager
def naming_other_kind(own: str, data: str) -> Iterator[None]:
    """Around the opening of a data set for a task: where that fails, says whether it is laid out for another task.

    Args:
        own: name of the task.
        data: folder, URL or pattern of the data set.

    Raises:
        UserError: as raised inside, or, of a data set for another task alone, which experiments train on it.
    """
    try:
        yield
    except UserError as error:
        kinds = [name for name in TASKS if task_named(name).has_data(data)]
        if not kinds or own in kinds:
            raise
        entry = TASKS[kinds[0]]
        raise UserError(
            f"{data}: is data for {kinds[0]} ({entry.data}), not for {own}; the experiments {entry.examples} train on "
            "such data"
        ) from error


def task_of_checkpoint(path: Path) -> "type[Task]":
    """The task of a checkpoint, or of a run folder's best checkpoint.

    Raises:
        UserError: missing, damaged, of another program, or of an unknown task.
    """
    from botvision.checkpoint import checkpoint_of, read_checkpoint  # here, as it imports PyTorch

    path = checkpoint_of(path)
    try:
        return task_named(read_checkpoint(path)["botvision"]["task"])
    except FieldError as error:
        raise UserError(f"{path}: {error}") from error


def task_of_run(folder: Path, **changes: Any) -> "Task":  # noqa: ANN401 (of RunConfig)
    """The task of a run, made from its ``config.yaml``.

    Args:
        folder: of the run.
        changes: fields of the section "run" with other values.

    Raises:
        FieldError: a change that its field cannot have.
        UserError: no run folder, settings that are wrong (the message names the file and the field), or data that
            cannot be used.
    """
    record = read_config(folder)
    experiment = experiment_of(record, folder / "config.yaml")
    return task_named(record.task)(experiment.replace(run=experiment.run.replace(**changes)), is_new=False)


def experiment_of(record: RunRecord, file: Path) -> ExperimentConfig:
    """The settings of a run, checked.

    Raises:
        UserError: settings that are wrong; the message names the file and the field.
    """
    try:
        return entry_named(record.task).config_type(**{str(name): value for name, value in record.settings.items()})
    except FieldError as error:
        raise UserError(f"{file}: {error}") from error
