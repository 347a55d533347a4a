"""Classify image files: names with probabilities, and pictures."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.table import Column, Table
from torch import Tensor

from botvision.configuration import check_count
from botvision.tasks.classification.checkpoint import LoadedClassifier
from botvision.tasks.classification.prediction import Classification
from botvision.tasks.classification.transforms import eval_crop
from botvision.tasks.prediction import predict_and_draw
from botvision.training.trainable import OnImage


@torch.no_grad()
def classify(classifier: LoadedClassifier, images: Sequence[Tensor], *, top: int = 5) -> list[Classification]:
    """The ``top`` likeliest classes of each image, on the centre crop that the classifier is tested on.

    Images are (3, H, W) uint8, of a classifier of images as stored (C, H, W) float32.

    Returns:
        For each image its classes, likeliest first; all of them where there are fewer than ``top``.

    Raises:
        FieldError: ``top`` is no whole number, or below 1.
    """
    check_count("top", top)
    model = classifier.model
    crop = eval_crop(model.config.image_size, as_stored=model.config.in_channels is not None)
    crops = torch.stack([crop(image) for image in images]).to(model.pixel_mean.device)
    probabilities = model(crops).cpu().double().softmax(dim=1)
    likeliest = probabilities.topk(min(top, probabilities.shape[1]))
    return [
        Classification(image, class_ids, scores, classifier.classes, classifier.class_names)
        for image, class_ids, scores in zip(images, likeliest.indices, likeliest.values, strict=True)
    ]


def classify_files(
    classifier: LoadedClassifier,
    files: Sequence[Path],
    out: Path,
    *,
    top: int,
    batch_size: int = 1,
    on_image: OnImage = lambda done, total: None,
) -> list[dict[str, Any]]:
    """Classify image files and draw each one beside its ``top`` classes.

    See :func:`~botvision.tasks.prediction.predict_and_draw`, also for the errors.

    Returns:
        For each image that could be read "path" and "classes", likeliest first, each with "class" (as the data set has
        it), "name" (for people to read) and "probability".
    """
    predict, channels = partial(classify, classifier, top=top), classifier.model.config.in_channels
    return [
        {"path": str(files[number - 1]), "classes": found.to_dicts()}
        for number, found in predict_and_draw(predict, files, out, batch_size, on_image, channels)
    ]


def predictions_table(results: Sequence[dict[str, Any]]) -> Table:
    """The results of :func:`classify_files`, a line for each image and class."""
    table = Table(Column("image", overflow="fold"), "class", "probability (%)")
    for result in results:
        for place, entry in enumerate(result["classes"]):
            table.add_row("" if place else result["path"], entry["name"], f"{100 * entry['probability']:.1f}")
        table.add_section()
    return table
