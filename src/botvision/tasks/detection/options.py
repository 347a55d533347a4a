"""What can be chosen where a detector is evaluated or used. Without PyTorch."""

from botvision.configuration import CountOrZero, Share
from botvision.tasks.options import EvalOptions, PredictOptions


class DetectionEvalOptions(EvalOptions):
    """Options of the evaluation of a detector."""

    classes: bool = False
    """Print AP class by class too."""
    pictures: CountOrZero = 0
    """Draw the first so many images, what was found beside the truth."""
    threshold: Share = 0.5
    """Detections that score less are not drawn; the scores count them all."""


class DetectionPredictOptions(PredictOptions):
    """Options of detection on image files."""

    threshold: Share = 0.5
    """Detections that score less are left out."""
