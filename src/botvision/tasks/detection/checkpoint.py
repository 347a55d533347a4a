"""What a detector's checkpoint says of itself, and a detector from a checkpoint."""

from pathlib import Path
from typing import Any, NamedTuple

import torch

from botvision.checkpoint import checkpoint_of, read_checkpoint, weights_of
from botvision.data import Category
from botvision.errors import UserError
from botvision.tasks.detection.config import DetectorConfig
from botvision.tasks.detection.detectors import make_detector
from botvision.tasks.detection.rcnn import RCNN
from botvision.version import __version__

TASK = "detection"


class LoadedDetector(NamedTuple):
    """A trained detector."""

    model: RCNN
    categories: list[Category]
    """Label i stands for ``categories[i - 1]``."""
    path: Path


def describe(config: DetectorConfig, categories: list[Category]) -> dict[str, Any]:
    """What a checkpoint needs beside its weights to be used anywhere."""
    return {
        "task": TASK,
        "version": __version__,
        "model": config.plain(),
        "categories": [{"id": category.id, "name": category.name} for category in categories],
    }


def load_detector(path: Path, device: torch.device | str = "cpu") -> LoadedDetector:
    """A detector in test mode from a checkpoint, or from a run folder's best one.

    Where the run keeps an average of the weights, the detector has it.

    Raises:
        UserError: missing, not readable, of another task, or weights that do not belong to the described network.
    """
    path = checkpoint_of(path)
    content = read_checkpoint(path)
    described = content["botvision"]
    if described["task"] != TASK:
        raise UserError(f"{path} is of the task {described['task']}, a checkpoint of {TASK} is needed here")
    try:
        categories = [Category(**category) for category in described["categories"]]
        model = make_detector(DetectorConfig(**described["model"]), len(categories))
        model.load_state_dict(weights_of(content))
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{path} is a checkpoint of another model or version: {reason}") from error
    return LoadedDetector(model.eval().to(device), categories, path)
