"""The description of a detector in its checkpoint, and a detector from a checkpoint."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch

from botvision.checkpoint import load_trained
from botvision.data import Category, keypoint_names
from botvision.tasks.detection.config import CommonConfig, detector_config
from botvision.tasks.detection.detector import Detector
from botvision.tasks.detection.detectors import make_detector
from botvision.version import __version__

TASK = "detection"
PIPELINE_TAGS = {"box": "object-detection", "mask": "image-segmentation", "keypoint": "keypoint-detection"}
"""The hub's names of what a detector predicts beside boxes."""


class LoadedDetector(NamedTuple):
    """A trained detector."""

    model: Detector
    categories: list[Category]
    """Label i stands for ``categories[i - 1]``."""
    path: Path

    @property
    def names(self) -> list[str]:
        """Of the classes."""
        return [category.name for category in self.categories]

    @property
    def pipeline_tag(self) -> str:
        """What the hub calls its task."""
        return PIPELINE_TAGS[self.model.predicts[-1]]


def describe(config: CommonConfig, categories: list[Category]) -> dict[str, Any]:
    """What a checkpoint needs beside its weights to be used anywhere."""
    return {
        "task": TASK,
        "version": __version__,
        "model": config.plain(),
        "categories": [asdict(category) for category in categories],
    }


def build(described: dict[str, Any]) -> tuple[Detector, list[Category]]:
    """A detector with random weights, and its categories, from what :func:`describe` gave."""
    categories = [Category(**category) for category in described["categories"]]
    config = detector_config(described["model"])
    return make_detector(config, len(categories), len(keypoint_names(categories))), categories


def load_detector(path: Path, device: torch.device | str = "cpu") -> LoadedDetector:
    """A detector in test mode; see :func:`~botvision.checkpoint.load_trained`."""
    return LoadedDetector(*load_trained(path, TASK, build, device))
