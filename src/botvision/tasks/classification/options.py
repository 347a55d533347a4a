"""What can be chosen where a classifier is evaluated or used. Without PyTorch."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from botvision.configuration import Count
from botvision.tasks.options import EvalOptions, PredictOptions

CROP = 0.875
"""Side of the centre crop in evaluation, as a share of the image's shorter side (Tables 9 and 10)."""


class ClassificationEvalOptions(EvalOptions):
    """Options of the evaluation of a classifier."""

    input_size: Count | None = None
    """Height and width of the crop in pixels; what the model was trained for by default."""
    crop: Annotated[float, Field(gt=0, le=1)] = CROP
    """Side of the centre crop, as a share of the image's shorter side (Tables 9 and 10)."""
    ema: bool = True
    """Take the average of the weights, where the run keeps one, and not those of the last step."""
    labels: Path | None = None
    """Labels that count instead: ImageNet-ReaL's JSON, or lines of a path and a label."""


class ClassificationPredictOptions(PredictOptions):
    """Options of classifying image files."""

    top: Count = 5
    """How many of the likeliest classes are named."""
