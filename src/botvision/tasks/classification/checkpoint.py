"""The description of a classifier in its checkpoint, and a classifier from a checkpoint."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from botvision.checkpoint import load_trained
from botvision.tasks.classification.config import ClassifierConfig
from botvision.tasks.classification.model import Classifier
from botvision.version import __version__

TASK = "classification"


class LoadedClassifier(NamedTuple):
    """A trained classifier."""

    model: Classifier
    classes: list[str]
    """Output i stands for ``classes[i]``, as the training data named it."""
    class_names: list[str]
    """The same for people to read."""
    path: Path

    @property
    def names(self) -> list[str]:
        """Of the classes, for people to read."""
        return self.class_names

    @property
    def pipeline_tag(self) -> str:
        """What the hub calls its task."""
        return "image-classification"


def describe(config: ClassifierConfig, classes: Sequence[str], class_names: Sequence[str]) -> dict[str, Any]:
    """What a checkpoint needs beside its weights to be used anywhere."""
    return {
        "task": TASK,
        "version": __version__,
        "model": config.plain(),
        "classes": list(classes),
        "class_names": list(class_names),
    }


def build(described: dict[str, Any]) -> tuple[Classifier, tuple[list[str], list[str]]]:
    """A classifier with random weights, its classes and their names, from what :func:`describe` gave."""
    classes, class_names = list(described["classes"]), list(described["class_names"])
    return Classifier(ClassifierConfig(**described["model"]), len(classes)), (classes, class_names)


def load_classifier(path: Path, device: torch.device | str = "cpu", *, ema: bool = True) -> LoadedClassifier:
    """A classifier in test mode; see :func:`~botvision.checkpoint.load_trained`."""
    model, names, path = load_trained(path, TASK, build, device, ema=ema)
    return LoadedClassifier(model, *names, path)
