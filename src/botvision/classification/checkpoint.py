"""What a classifier's checkpoint says of itself, and a classifier from a checkpoint."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch

from botvision.checkpoint import checkpoint_of, read_kind
from botvision.classification.classifier import Classifier
from botvision.classification.config import ClassifierConfig
from botvision.errors import UserError
from botvision.version import __version__


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
        "version": __version__,
        "kind": "classification",
        "model": asdict(config),
        "classes": list(classes),
        "class_names": list(class_names),
    }


def load_classifier(path: Path, device: torch.device | str = "cpu", *, ema: bool = True) -> LoadedClassifier:
    """A classifier in test mode from a checkpoint or a run folder.

    Args:
        path: of a run folder the best checkpoint counts, or else the last.
        device: where to.
        ema: take the average of the weights, where the run kept one, and not the weights of its last step.

    Raises:
        UserError: not there, not readable, of a detector, or weights that do not belong to the network that it
            describes.
    """
    path = checkpoint_of(path)
    content = read_kind(path, "classification")
    described = content["botvision"]
    try:
        state = content["ema_state_dict"] if ema and "ema_state_dict" in content else content["state_dict"]
        classes, class_names = list(described["classes"]), list(described["class_names"])
        model = Classifier(ClassifierConfig(**described["model"]), len(classes))
        model.load_state_dict({name.removeprefix("model."): value for name, value in state.items()})
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{path} is a checkpoint of another model or version: {reason}") from error
    return LoadedClassifier(model.eval().to(device), classes, class_names, path)
