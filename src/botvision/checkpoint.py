"""Checkpoints of runs, whatever the task: where they are, and what they contain."""

import json
import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from botvision.checksum import damage_of
from botvision.errors import UserError
from botvision.files import read_file, why_unreadable

Model = TypeVar("Model", bound=nn.Module)
Labels = TypeVar("Labels")

PARTS: dict[str, type] = {"botvision": dict, "state_dict": dict, "step": int}
"""What every checkpoint contains."""
HUB = "hf-hub:"
"""Begins the name of a model on the Hugging Face Hub, as timm writes it: hf-hub:OWNER/NAME."""
WEIGHTS, DESCRIPTION = "model.safetensors", "config.json"
"""The files of a model on the hub."""
OTHER_FILES = {
    ".safetensors": "a network alone, which botvision.load opens",
    **dict.fromkeys((".onnx", ".pt2"), "a model that was exported, which runs without botvision (docs/export.md)"),
}
"""What files with another suffix hold, and what they are for."""
LARGEST_DESCRIPTION = 2**26
"""Bytes."""
HUB_PREFIX = "model."
"""Of the tensors in it: the hub's module has the model inside."""
LEAST_BEST = 0.01
"""Where no evaluation of a run scored this much, its best checkpoint is chosen among scores of about 0, by chance."""

logger = logging.getLogger("botvision")


def checkpoint_of(path: Path) -> Path:
    """The checkpoint that a user means: the file itself, or the best one of a run folder, or else the last.

    Of a run folder the last one is also taken where the best score is below 0.01. A damaged one is named in a warning,
    and the next one taken: the best, the last, then those before it. Which one it is, is logged. A model of the hub, in
    a folder or by its name (:data:`HUB`), is a checkpoint too.

    Raises:
        UserError: none is there, or all are damaged; a name of the hub that cannot be had.
    """
    if str(path).startswith(HUB):
        path = hub_folder(str(path).removeprefix(HUB))
    if path.is_file():
        return path
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; give a checkpoint or the folder of a run")
    if all((path / name).is_file() for name in (WEIGHTS, DESCRIPTION)):
        return path / WEIGHTS
    best, *others = (path / "checkpoints" / "best.ckpt", *kept_checkpoints(path / "checkpoints"))
    file, content = first_whole([best, *others])
    if file is None or content is None:
        runs = [last.parents[1] for last in sorted(path.glob("*/checkpoints/last.ckpt"))]
        hint = f"; {runs[0]} is one" if runs else ""
        raise UserError(f"{path} is neither a checkpoint nor a run folder with checkpoints/last.ckpt{hint}")
    step, score = content["step"], content.get("best", 0.0)
    if file == best and score < LEAST_BEST:
        try:
            last, content = first_whole(others)
        except UserError:  # all of them are damaged
            last, content = None, None
        if last and content:
            text = "%s (step %d) is used: the best score of the run, %.4f at step %d, is below %g"
            logger.warning(text, last, content["step"], score, step, LEAST_BEST)
            return last
    about = f", score {score:.4f}" if file == best else ""
    logger.info("%s (step %d%s) is used", file, step, about)
    return file


def kept_checkpoints(folder: Path) -> list[Path]:
    """Where the checkpoints of a run are, the newest first: last.ckpt, before.ckpt, before-2.ckpt and so on."""
    numbered = sorted(folder.glob("before-*.ckpt"), key=lambda file: (len(file.name), file.name))
    return [folder / "last.ckpt", folder / "before.ckpt", *numbered]


def first_whole(files: Sequence[Path]) -> tuple[Path, dict[str, Any]] | tuple[None, None]:
    """The first of some checkpoints that is there and whole, with its content; damaged ones are named in a warning.

    Raises:
        UserError: none is whole; the first one is named, and what to do.
    """
    there = [file for file in files if file.is_file()]
    problems: list[UserError] = []
    for file in there:
        try:
            content = read_checkpoint(file)
        except UserError as error:
            problems.append(error)
            continue
        for problem in problems:
            logger.warning("%s; %s (step %d) is used instead", problem, file, content["step"])
        return file, content
    if problems:
        raise UserError(
            f"{problems[0]}; no other checkpoint that could take its place is whole; copy the run again from where it "
            "was trained, or train again into another folder"
        )
    return None, None


def is_checkpoint(path: Path) -> bool:
    """Whether a file is a checkpoint, and not the network alone that ``botvision.save`` writes; as far as it looks."""
    with path.open("rb") as file:
        by_torch = file.read(2).startswith((b"PK", b"\x80"))  # now and in its older format
    return by_torch or (path.name == WEIGHTS and path.with_name(DESCRIPTION).is_file())


def hub_folder(name: str, **options: Any) -> Path:  # noqa: ANN401 (of huggingface_hub)
    """The folder of a model of the hub, downloaded unless it was before; ``HF_HUB_OFFLINE=1`` takes no others.

    Args:
        name: OWNER/NAME.
        options: of ``huggingface_hub.snapshot_download``, such as ``revision`` and ``token``.

    Raises:
        UserError: the package huggingface-hub is missing, or gives no such model.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise UserError(f"{name} needs the package huggingface-hub: pip install 'botvision[hub]'") from error
    try:
        return Path(snapshot_download(name, allow_patterns=[WEIGHTS, DESCRIPTION], **options))
    except Exception as error:  # an unknown name, no right to it, no network: each raises its own
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"the hub gives no model {name!r}: {reason}") from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint on the CPU, without running any code in it.

    Returns:
        "state_dict", tensors by the names of the model; "ema_state_dict", the average of the weights, where the run
        keeps one; "step", optimiser steps done; "botvision", what the task says of the model, with its "task" and
        "version"; and what a run needs to resume.

    Raises:
        OSError: the file cannot be opened.
        UserError: it is damaged, or of another program.
    """
    is_of_hub = path.name == WEIGHTS and path.with_name(DESCRIPTION).exists()
    if path.suffix in OTHER_FILES and not is_of_hub:
        raise UserError(f"{path} is no checkpoint: it holds {OTHER_FILES[path.suffix]}; give the run that it is of")
    damage = damage_of(path)
    if damage:
        raise UserError(f"{path} is damaged: {damage}")
    try:
        with warnings.catch_warnings(action="ignore"):  # about foreign pickles; the error says what matters
            content = read_hub_files(path) if is_of_hub else torch.load(path, map_location="cpu", weights_only=True)
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


def read_hub_files(weights: Path) -> dict[str, Any]:
    """The files of a model on the hub as the content of a checkpoint; its step is not known."""
    state = {name.removeprefix(HUB_PREFIX): tensor for name, tensor in load_file(weights).items()}
    described = json.loads(read_file(weights.with_name(DESCRIPTION), LARGEST_DESCRIPTION))
    return {"botvision": described, "state_dict": state, "step": 0}


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
        path: of a run folder the best checkpoint is taken, or else the last; see :func:`checkpoint_of`.
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
