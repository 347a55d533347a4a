"""Checkpoints of either kind, detection and classification: where they are, and what they say of themselves."""

import warnings
from pathlib import Path
from typing import Any, Literal

import torch

from botvision.errors import UserError
from botvision.files import why_unreadable

Kind = Literal["detection", "classification"]

PARTS: dict[Kind, tuple[str, ...]] = {
    "detection": ("model", "categories"),
    "classification": ("model", "classes", "class_names"),
}
"""What a checkpoint of each kind says of itself, under "botvision"."""


def checkpoint_of(path: Path) -> Path:
    """The checkpoint that a user means: the file itself, or of a run folder the best one, or else the last.

    Raises:
        UserError: nothing of the kind is there.
    """
    if path.is_file():
        return path
    for name in ("best.ckpt", "last.ckpt"):
        if (path / "checkpoints" / name).is_file():
            return path / "checkpoints" / name
    raise UserError(f"{path} is neither a checkpoint nor a run folder with checkpoints/last.ckpt")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running any code in it.

    Returns:
        "state_dict", "global_step" and "botvision", which has "kind" and what :data:`PARTS` names; of a run under
        training also "ema_state_dict", where weights are averaged, and what the training engine needs to go on.

    Raises:
        UserError: damaged, or of another program.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # of foreign pickles; the error says what matters
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the reader raises on a damaged or foreign file
        raise UserError(f"{path} is no readable checkpoint: {why_unreadable(error)}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is no botvision checkpoint: it holds no dictionary")
    for name, kind in {"botvision": dict, "state_dict": dict, "global_step": int}.items():
        if not isinstance(content.get(name), kind):
            raise UserError(f"{path} is no botvision checkpoint: it has no {name!r}, or not of the right kind")
    described = content["botvision"]
    described.setdefault("kind", "detection")  # before there were classifiers, checkpoints did not say
    if described["kind"] not in PARTS:
        raise UserError(f"{path} is a checkpoint of an unknown kind, {described['kind']!r}; of a newer version?")
    missing = [part for part in PARTS[described["kind"]] if part not in described]
    if missing:
        raise UserError(f"{path} is no botvision checkpoint: its 'botvision' lacks {' and '.join(map(repr, missing))}")
    return content


def checkpoint_kind(path: Path) -> Kind:
    """What a checkpoint, or a run folder, is of.

    Raises:
        UserError: not there, damaged, or of another program.
    """
    return read_checkpoint(checkpoint_of(path))["botvision"]["kind"]


def read_kind(path: Path, wanted: Kind) -> dict[str, Any]:
    """Read a checkpoint that has to be of one kind.

    Raises:
        UserError: damaged, of another program, or of the other kind.
    """
    content = read_checkpoint(path)
    kind = content["botvision"]["kind"]
    if kind != wanted:
        raise UserError(f"{path} is a {kind} checkpoint, a {wanted} one is needed here")
    return content
