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


def describe(config: CommonConfig, categories: list[Category]) -> dict[str, Any]:
    """What a checkpoint needs beside its weights to be used anywhere."""
    return {
        "task": TASK,
        "version": __version__,
        "model": config.plain(),
        "categories": [asdict(category) for category in categories],
    }


def load_detector(path: Path, device: torch.device | str = "cpu") -> LoadedDetector:
    """A detector in test mode; see :func:`~botvision.checkpoint.load_trained`."""

    def build(described: dict[str, Any]) -> tuple[Detector, list[Category]]:
        categories = [Category(**category) for category in described["categories"]]
        return make_detector(
            detector_config(described["model"]), len(categories), len(keypoint_names(categories))
        ), categories

    return LoadedDetector(*load_trained(path, TASK, build, device))
