"""What a detector's checkpoint says of itself, and a detector from a checkpoint."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch

from botvision.checkpoint import checkpoint_of, read_kind
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
        "kind": "detection",
        "model": asdict(config),
        "categories": [{"id": category.id, "name": category.name} for category in categories],
    }


def load_detector(path: Path, device: torch.device | str = "cpu") -> LoadedDetector:
    """A detector in test mode from a checkpoint or a run folder.

    Raises:
        UserError: not there, not readable, or weights that do not belong to the network that it describes.
    """
    path = checkpoint_of(path)
    content = read_kind(path, "detection")
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
