"""Image classification on the networks of the catalogue."""

from typing import TYPE_CHECKING

from botvision.lazy import lazy_names
from botvision.tasks.classification.config import ClassificationExperiment, ClassifierConfig

if TYPE_CHECKING:
    from botvision.tasks.classification.model import Classifier

__getattr__, __dir__ = lazy_names(__name__, {"Classifier": "model"})

__all__ = ["ClassificationExperiment", "Classifier", "ClassifierConfig"]
