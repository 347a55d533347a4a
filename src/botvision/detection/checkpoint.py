"""What a detector's checkpoint says of itself, and a detector from a checkpoint."""

import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch

from botvision.data import Category
from botvision.detection.config import DetectorConfig
from botvision.detection.mask_rcnn import MaskRCNN
from botvision.errors import UserError
from botvision.version import __version__


class LoadedDetector(NamedTuple):
    """A trained detector."""

    model: MaskRCNN
    categories: list[Category]
    """Label i stands for ``categories[i - 1]``."""
    path: Path


def describe(config: DetectorConfig, categories: list[Category]) -> dict[str, Any]:
    """What a checkpoint needs beside its weights to be used anywhere."""
    return {
        "version": __version__,
        "model": asdict(config),
        "categories": [{"id": category.id, "name": category.name} for category in categories],
    }


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

    Raises:
        UserError: damaged, or of another program.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # of foreign pickles; the error says what matters
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the reader raises on a damaged or foreign file
        raise UserError(f"{path} is no readable checkpoint: {str(error).splitlines()[0][:200]}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is no botvision checkpoint: it holds no dictionary")
    for name, kind in {"botvision": dict, "state_dict": dict, "global_step": int}.items():
        if not isinstance(content.get(name), kind):
            raise UserError(f"{path} is no botvision checkpoint: it has no {name!r}, or not of the right kind")
    if not {"model", "categories"} <= content["botvision"].keys():
        raise UserError(f"{path} is no botvision checkpoint: its 'botvision' lacks 'model' or 'categories'")
    return content


def load_detector(path: Path, device: torch.device | str = "cpu") -> LoadedDetector:
    """A detector in test mode from a checkpoint or a run folder.

    Raises:
        UserError: not there, not readable, or weights that do not belong to the network that it describes.
    """
    path = checkpoint_of(path)
    content = read_checkpoint(path)
    described = content["botvision"]
    try:
        state = {name.removeprefix("model."): value for name, value in content["state_dict"].items()}
        categories = [Category(**category) for category in described["categories"]]
        model = MaskRCNN(DetectorConfig(**described["model"]), len(categories))
        model.load_state_dict(state)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{path} is a checkpoint of another model or version: {reason}") from error
    return LoadedDetector(model.eval().to(device), categories, path)
