"""Classify image files: names with probabilities, and pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.table import Column, Table
from torch import Tensor

from botvision.data import read_images
from botvision.pictures import picture_files, save_picture
from botvision.tasks.classification.checkpoint import LoadedClassifier
from botvision.tasks.classification.drawing import draw_ranking
from botvision.tasks.classification.transforms import eval_crop
from botvision.training.trainable import OnImage


@torch.no_grad()
def classify(classifier: LoadedClassifier, image: Tensor, top: int) -> list[tuple[int, float]]:
    """The ``top`` likeliest classes of one image (3, H, W) uint8, on the centre crop that the classifier is tested on.

    Returns:
        (class, probability), likeliest first; all classes where there are fewer than ``top``.
    """
    model = classifier.model
    crop = eval_crop(model.config.image_size)(image)
    probabilities = model(crop[None].to(model.pixel_mean.device))[0].cpu().double().softmax(dim=0)
    likeliest = probabilities.topk(min(top, len(probabilities)))
    return list(zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True))


def classify_files(
    classifier: LoadedClassifier,
    files: Sequence[Path],
    out: Path,
    *,
    top: int,
    on_image: OnImage = lambda done, total: None,
) -> list[dict[str, Any]]:
    """Classify image files and draw each one beside its ``top`` classes, in pictures in ``out`` named after the images.

    Photographs are turned as their EXIF data say. Images that cannot be read are left out, with a warning.

    Returns:
        For each image that could be read "path" and "classes", likeliest first, each with "class" (as the data set has
        it), "name" (for people to read) and "probability".

    Raises:
        UserError: no image can be read, or ``out`` is the folder of one.
    """
    pictures = picture_files(files, out)
    results = []
    for number, image in read_images(files, on_image):
        classes: list[dict[str, Any]] = [
            {"class": classifier.classes[index], "name": classifier.class_names[index], "probability": probability}
            for index, probability in classify(classifier, image, top)
        ]
        results.append({"path": str(files[number - 1]), "classes": classes})
        named = [(entry["name"], entry["probability"]) for entry in classes]
        save_picture(draw_ranking(image, named), pictures[number - 1])
    return results


def predictions_table(results: Sequence[dict[str, Any]]) -> Table:
    """The results of :func:`classify_files`, a line for each image and class."""
    table = Table(Column("image", overflow="fold"), "class", "probability (%)")
    for result in results:
        for place, entry in enumerate(result["classes"]):
            table.add_row("" if place else result["path"], entry["name"], f"{100 * entry['probability']:.1f}")
        table.add_section()
    return table
