"""What a classifier's checkpoint says of itself, and a classifier from a checkpoint."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from botvision.checkpoint import checkpoint_of, read_checkpoint, weights_of
from botvision.errors import UserError
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


def describe(config: ClassifierConfig, classes: Sequence[str], class_names: Sequence[str]) -> dict[str, Any]:
    """What a checkpoint needs beside its weights to be used anywhere."""
    return {
        "task": TASK,
        "version": __version__,
        "model": config.plain(),
        "classes": list(classes),
        "class_names": list(class_names),
    }


def load_classifier(path: Path, device: torch.device | str = "cpu", *, ema: bool = True) -> LoadedClassifier:
    """A classifier in test mode from a checkpoint or a run folder.

    Args:
        path: of a run folder the best checkpoint is taken, or else the last.
        device: where to.
        ema: take the average of the weights, where the run keeps one, and not the weights of its last step.

    Raises:
        UserError: missing, not readable, of another task, or weights that do not belong to the described network.
    """
    path = checkpoint_of(path)
    content = read_checkpoint(path)
    described = content["botvision"]
    if described["task"] != TASK:
        raise UserError(f"{path} is of the task {described['task']}, a checkpoint of {TASK} is needed here")
    try:
        classes, class_names = list(described["classes"]), list(described["class_names"])
        model = Classifier(ClassifierConfig(**described["model"]), len(classes))
        model.load_state_dict(weights_of(content, ema=ema))
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{path} is a checkpoint of another model or version: {reason}") from error
    return LoadedClassifier(model.eval().to(device), classes, class_names, path)
