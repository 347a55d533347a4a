"""Classify image files: names with probabilities, and pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.table import Column, Table
from torch import Tensor

from botvision.data import read_image_batches
from botvision.pictures import picture_files, save_picture
from botvision.tasks.classification.checkpoint import LoadedClassifier
from botvision.tasks.classification.drawing import draw_ranking
from botvision.tasks.classification.transforms import eval_crop
from botvision.training.trainable import OnImage


@torch.no_grad()
def classify(classifier: LoadedClassifier, images: Sequence[Tensor], top: int) -> list[list[tuple[int, float]]]:
    """The ``top`` likeliest classes of each image (3, H, W) uint8, on the centre crop that the classifier is tested on.

    Returns:
        For each image (class, probability), likeliest first; all classes where there are fewer than ``top``.
    """
    model = classifier.model
    crop = eval_crop(model.config.image_size)
    crops = torch.stack([crop(image) for image in images]).to(model.pixel_mean.device)
    probabilities = model(crops).cpu().double().softmax(dim=1)
    likeliest = probabilities.topk(min(top, probabilities.shape[1]))
    rows = zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True)
    return [list(zip(*row, strict=True)) for row in rows]


def classify_files(
    classifier: LoadedClassifier,
    files: Sequence[Path],
    out: Path,
    *,
    top: int,
    batch_size: int = 1,
    on_image: OnImage = lambda done, total: None,
) -> list[dict[str, Any]]:
    """Classify image files and draw each one beside its ``top`` classes, in pictures in ``out`` named after the images.

    Photographs are turned as their EXIF data say. Images that cannot be read are left out, with a warning. The network
    takes ``batch_size`` images at once, fewer where they are large.

    Returns:
        For each image that could be read "path" and "classes", likeliest first, each with "class" (as the data set has
        it), "name" (for people to read) and "probability".

    Raises:
        UserError: no image can be read, or ``out`` is the folder of one.
    """
    pictures = picture_files(files, out)
    results = []
    for batch in read_image_batches(files, batch_size, on_image):
        rankings = classify(classifier, [image for _, image in batch], top)
        for (number, image), ranking in zip(batch, rankings, strict=True):
            classes: list[dict[str, Any]] = [
                {"class": classifier.classes[index], "name": classifier.class_names[index], "probability": probability}
                for index, probability in ranking
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
