"""Checkpoints of runs, whatever the task: where they are, and what they contain."""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from botvision.errors import UserError
from botvision.files import why_unreadable

Model = TypeVar("Model", bound=nn.Module)
Labels = TypeVar("Labels")

PARTS: dict[str, type] = {"botvision": dict, "state_dict": dict, "step": int}
"""What every checkpoint contains."""
LEAST_BEST = 0.01
"""Where no evaluation of a run scored this much, its best checkpoint is chosen among scores of about 0, by chance."""

logger = logging.getLogger("botvision")


def checkpoint_of(path: Path) -> Path:
    """The checkpoint that a user means: the file itself, or the best one of a run folder, or else the last.

    Of a run folder the last one is also taken where the best score is below 0.01. Which one it is, is logged.

    Raises:
        UserError: neither is there, or it is damaged.
    """
    if path.is_file():
        return path
    best, last = (path / "checkpoints" / f"{name}.ckpt" for name in ("best", "last"))
    found = [file for file in (best, last) if file.is_file()]
    if not found:
        raise UserError(f"{path} is neither a checkpoint nor a run folder with checkpoints/last.ckpt")
    content = read_checkpoint(found[0])
    step, score = content["step"], content.get("best", 0.0)
    if found == [best, last] and score < LEAST_BEST:
        done = read_checkpoint(last)["step"]
        text = "%s (step %d) is used: the best score of the run, %.4f at step %d, is below %g"
        logger.warning(text, last, done, score, step, LEAST_BEST)
        return last
    about = f", score {score:.4f}" if found[0] == best else ""
    logger.info("%s (step %d%s) is used", found[0], step, about)
    return found[0]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint on the CPU, without running any code in it.

    Returns:
        "state_dict", tensors by the names of the model; "ema_state_dict", the average of the weights, where the run
        keeps one; "step", optimiser steps done; "botvision", what the task says of the model, with its "task" and
        "version"; and what a run needs to resume.

    Raises:
        UserError: the file is damaged, or of another program.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # about foreign pickles; the error says what matters
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the reader raises on a damaged or foreign file
        raise UserError(f"{path} is no readable checkpoint: {why_unreadable(error)}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is no botvision checkpoint: it holds no dictionary")
    for name, kind in PARTS.items():
        if not isinstance(content.get(name), kind):
            raise UserError(f"{path} is no botvision checkpoint: it has no {name!r}, or one of the wrong type")
    if not isinstance(content["botvision"].get("task"), str):
        raise UserError(f"{path} is no botvision checkpoint: it does not say which 'task' it is of")
    return content


def weights_of(content: dict[str, Any], *, ema: bool = True) -> dict[str, Tensor]:
    """The state dict of the model in a checkpoint; with ``ema`` the average of the weights, where the run keeps one."""
    return content.get("ema_state_dict", content["state_dict"]) if ema else content["state_dict"]


def load_trained(
    path: Path,
    task: str,
    build: Callable[[dict[str, Any]], tuple[Model, Labels]],
    device: torch.device | str,
    *,
    ema: bool = True,
) -> tuple[Model, Labels, Path]:
    """A model in test mode from a checkpoint or a run folder, what its outputs stand for, and the checkpoint's path.

    Args:
        path: of a run folder the best checkpoint is taken, or else the last.
        task: that the checkpoint must be of.
        build: makes the model, and says what its outputs stand for, from what the task wrote of it ("botvision").
        device: where to.
        ema: take the average of the weights, where the run keeps one, and not the weights of its last step.

    Raises:
        UserError: missing, not readable, of another task, or weights that do not belong to the described model.
    """
    path = checkpoint_of(path)
    content = read_checkpoint(path)
    described = content["botvision"]
    if described["task"] != task:
        raise UserError(f"{path} is of the task {described['task']}, a checkpoint of {task} is needed here")
    try:
        model, labels = build(described)
        model.load_state_dict(weights_of(content, ema=ema))
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{path} is a checkpoint of another model or version: {reason}") from error
    return model.eval().to(device), labels, path
