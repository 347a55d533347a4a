"""Image classification on the networks of the catalogue."""

from botvision.tasks.classification.config import ClassificationExperiment, ClassifierConfig
from botvision.tasks.classification.model import Classifier

__all__ = ["ClassificationExperiment", "Classifier", "ClassifierConfig"]
