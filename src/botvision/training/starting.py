"""What a run starts from: data that all its processes see alike, and initial weights or its last checkpoint."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from botvision.checkpoint import HUB, checkpoint_of, read_checkpoint
from botvision.checksum import checksum_of
from botvision.configuration import FieldError
from botvision.errors import UserError
from botvision.models import read_state_dict
from botvision.models.named_weights import is_name_of_weights
from botvision.training.sharing import check_alike, on_every_process
from botvision.training.trainable import Trainable

logger = logging.getLogger("botvision")

SHOWN = 12
"""Digits of a checksum in messages."""


def check_same_data(task: Trainable) -> None:
    """Refuse processes that see different data: each would train its own number of steps, on other images."""
    check_alike(
        lambda: ", ".join(f"{what}: {found}" for what, found in task.data().items()),
        "the processes of this run see different data, give all of them the same --data",
    )


def check_same_evaluation(checkpoint: Path, digest: Callable[[], str]) -> None:
    """Refuse processes that evaluate different things: images would be left out, or scored by another model.

    Args:
        checkpoint: the file.
        digest: gives that of the data set.
    """
    check_alike(digest, "the processes of this evaluation see different images, give all of them the same --data")
    check_alike(lambda: shown(checkpoint), f"the processes of this evaluation read different files as {checkpoint}")


def shown(checkpoint: Path) -> str:
    """The checksum of a file, as messages show it."""
    return f"SHA-256 {checksum_of(checkpoint)[:SHOWN]}"


def last_checkpoint(task: Trainable, folder: Path) -> dict[str, Any]:
    """The content of ``last.ckpt``, checked against the task and against what the other processes read.

    Raises:
        FieldError: the run has done more steps than the task asks for.
        UserError: it cannot be read, is of another model or other data, or not the same for all processes.
    """
    last = folder / "checkpoints" / "last.ckpt"
    content = on_every_process(lambda: checked_checkpoint(last, task))
    check_alike(
        lambda: f"step {content['step']}, {shown(last)}",
        f"the processes of this run read different files as {last}, put it where all machines see it",
    )
    return content


def checked_checkpoint(last: Path, task: Trainable) -> dict[str, Any]:
    """The content of a checkpoint to go on from; errors as in :func:`last_checkpoint`."""
    folder = last.parents[1]
    content = read_checkpoint(last)
    expected = {part: value for part, value in task.describe().items() if part != "version"}
    if not all(agrees(content["botvision"].get(part), value) for part, value in expected.items()):
        raise UserError(f"{last} is of another model or data than {folder / 'config.yaml'} and its data set")
    now = task.data()
    for what, before in content.get("data", {}).items():
        if now.get(what) != before:
            raise UserError(
                f"the {what} are not those that {folder} began with ({before} then, {now.get(what)} now); bring those "
                f"back, or begin another run, which can start from its weights (--weights {folder})"
            )
    done, steps = content["step"], task.experiment.run.total_steps(task.images)
    if done > steps:
        length = "steps" if task.experiment.run.steps else "epochs"
        raise FieldError(("run", length), f"should be {done} steps or more, which {folder} has done, got {steps}")
    return content


def warn_of_other_statistics(model: nn.Module, before: int | None, now: int) -> None:
    """Warn where batch norm takes its statistics over another number of images than before the run was interrupted."""
    has_statistics = any(isinstance(module, _BatchNorm) for module in model.modules())
    if has_statistics and before not in (None, now):
        logger.warning(
            "batch norm takes its statistics over %d images now, and over %d before: results can be others; they are "
            "the same where --images-per-device times the number of processes is %d",
            *(now, before, before),
        )


def agrees(before: object, now: object) -> bool:
    """Whether what a checkpoint says of a part is what the run says; fields that are new since then have defaults."""
    if isinstance(before, dict) and isinstance(now, dict):
        return {**now, **before} == now
    return before == now


def initial_weights(source: Path) -> dict[str, Tensor]:
    """Weights to start from, by the names of the network or of the whole detector.

    Raises:
        FieldError: published weights that cannot be had.
        UserError: missing, or not readable.
    """
    try:
        is_file = not source.is_dir() and not str(source).startswith(HUB)
        state = read_state_dict(source if is_file else checkpoint_of(source))
    except UserError as error:
        if not is_name_of_weights(str(source)):
            raise
        raise FieldError(
            ("run", "weights"), f"{error}; choose a file of weights, or none to start at random"
        ) from error
    return {name.removeprefix("network."): value for name, value in state.items()}  # of a classifier
