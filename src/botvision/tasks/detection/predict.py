"""Detect on image files: COCO results and pictures."""

import logging
from collections.abc import Iterable, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from botvision.configuration import FieldError, check_fraction
from botvision.data import CocoDetection
from botvision.pictures import picture_names, save_picture
from botvision.tasks.detection.checkpoint import LoadedDetector
from botvision.tasks.detection.detections import Detections
from botvision.tasks.detection.drawing import draw_detections, side_by_side
from botvision.tasks.detection.results import above, coco_results, in_original
from botvision.tasks.detection.stored_results import StoredResults, rows_by_image
from botvision.tasks.detection.transforms import eval_transform
from botvision.tasks.prediction import predict_and_draw
from botvision.training.trainable import OnImage

logger = logging.getLogger("botvision")


@torch.no_grad()
def detect(detector: LoadedDetector, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
    """Detections in images of any sizes, in their own pixels; the network runs once.

    Args:
        detector: from :func:`~botvision.tasks.detection.checkpoint.load_detector`.
        images: as the detector takes them, (3, H, W) uint8, or as stored (C, H, W) float32.

    Returns:
        For each image "boxes" (D, 4), "labels" (D,), "scores" (D,), best first, and "masks" (D, 1, 28, 28) of a
        detector with masks, probabilities inside the box; :func:`~botvision.tasks.detection.results.coco_results` makes
        masks of them.
    """
    config = detector.model.config
    transform = eval_transform(config.input_size, config.padding)
    squares, targets = zip(*(transform(image, {}) for image in images), strict=True)
    sizes = [target["content_size"] for target in targets]
    detected = detector.model(torch.stack(squares).to(detector.model.pixel_mean.device), sizes)
    originals = [
        in_original(found, content, (int(image.shape[-2]), int(image.shape[-1])))
        for found, content, image in zip(detected, sizes, images, strict=True)
    ]
    return [{name: values.cpu() for name, values in found.items()} for found in originals]


def find_objects(detector: LoadedDetector, images: Sequence[Tensor], *, threshold: float = 0.5) -> list[Detections]:
    """The objects in images of any sizes, as :func:`detect` takes them, that score at least ``threshold``.

    Raises:
        FieldError: a threshold that is no number from 0 to 1.
    """
    check_fraction("threshold", threshold)
    found = detect(detector, images)
    return [
        Detections(image, above(own, threshold), detector.categories) for image, own in zip(images, found, strict=True)
    ]


def detect_files(
    detector: LoadedDetector,
    files: Sequence[Path],
    out: Path,
    *,
    threshold: float,
    batch_size: int = 1,
    on_image: OnImage = lambda done, total: None,
) -> list[dict[str, Any]]:
    """Detect on image files and draw each one, by :func:`~botvision.tasks.prediction.predict_and_draw`.

    Where nothing reaches the threshold, a warning says what the best score is.

    Args:
        detector: the trained detector.
        files: images; the i-th one gets ``image_id`` i, from 1 on.
        out: folder for the pictures, named after the images.
        threshold: detections below this score are left out.
        batch_size: images that the network takes at once, fewer where they are large.
        on_image: told how many images are done, of how many.

    Returns:
        Detections in COCO's results format, with "category_name" and the file as "file_name".

    Raises:
        UserError: no image can be read, or ``out`` is the folder of one.
    """
    results: list[dict[str, Any]] = []
    best, channels = 0.0, detector.model.config.in_channels

    def find(images: Sequence[Tensor]) -> list[Detections]:
        nonlocal best
        every = find_objects(detector, images, threshold=0)
        best = max([best, *(score for found in every for score in found.scores.tolist())])
        return [found.above(threshold) for found in every]

    for number, found in predict_and_draw(find, files, out, batch_size, on_image, channels):
        results += [{**row, "file_name": str(files[number - 1])} for row in found.to_coco(number)]
    if not results:
        problem = f"no object scores {threshold} or more; the best score is {best:.3g}, a lower threshold shows it"
        logger.warning(FieldError(("threshold",), problem))
    return results


def draw_beside_truth(
    results: StoredResults | Iterable[dict[str, Any]],
    dataset: CocoDetection,
    indices: Sequence[int],
    out: Path,
    *,
    threshold: float | None = None,
    longest: int | None = None,
) -> list[Path]:
    """Draw images of a data set twice side by side: what was found, and what is there.

    Args:
        results: of an evaluation on the data set, in COCO's results format, strongest first in each image.
        dataset: its transform is not used.
        indices: which images.
        out: folder for the pictures.
        threshold: detections below this score are not drawn; by default as many are drawn as there are objects, the
            strongest, so that also the first guesses of a training can be seen.
        longest: pictures are shrunk to at most so many pixels on the longer side.

    Returns:
        The files written.
    """
    rows_of = rows_by_image(results)
    files = []
    for index, name in zip(indices, picture_names([dataset.images[index].path for index in indices]), strict=True):
        sheet = beside_truth(rows_of(dataset.images[index].id), dataset, index, threshold)
        if longest is not None:
            sheet.thumbnail((longest, longest))
        files.append(out / name)
        save_picture(sheet, files[-1])
    return files


def beside_truth(
    rows: Sequence[dict[str, Any]], dataset: CocoDetection, index: int, threshold: float | None
) -> Image.Image:
    """One picture of :func:`draw_beside_truth`, of an image with these detections."""
    stored = copy(dataset)
    stored.transform = None
    image, target = stored[index]
    truth = coco_results(target, target["image_id"], dataset.categories, target["original_size"])
    found = [row for row in rows if row["score"] >= (threshold or 0)]
    title = f"found (score >= {threshold})"
    if threshold is None:
        found, title = found[: len(truth)], f"the {len(truth)} strongest found"
    pixels = image.as_subclass(Tensor)
    left, right = (draw_detections(pixels, rows, dataset.categories) for rows in (found, truth))
    return side_by_side(left, right, (title, "truth"))
