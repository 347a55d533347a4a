"""Image classification on a network of the catalogue."""

from botvision.classification.classifier import Classifier
from botvision.classification.config import ClassifierConfig

__all__ = ["Classifier", "ClassifierConfig"]
