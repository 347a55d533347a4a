"""Detect on image files: COCO results and pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from botvision.data import CocoDetection, read_images
from botvision.pictures import picture_files, picture_names, save_picture
from botvision.tasks.detection.checkpoint import LoadedDetector
from botvision.tasks.detection.drawing import draw_detections, side_by_side
from botvision.tasks.detection.results import above, coco_results, in_original
from botvision.tasks.detection.transforms import eval_transform
from botvision.training.trainable import OnImage


@torch.no_grad()
def detect(detector: LoadedDetector, image: Tensor) -> dict[str, Tensor]:
    """Detections in one image, in its own pixels.

    Args:
        detector: from :func:`~botvision.tasks.detection.checkpoint.load_detector`.
        image: (3, H, W) uint8.

    Returns:
        "boxes" (D, 4), "labels" (D,), "scores" (D,), best first, and "masks" (D, H, W) bool of a detector with masks.
    """
    size = (int(image.shape[-2]), int(image.shape[-1]))
    squared, target = eval_transform(detector.model.config.input_size)(image, {})
    device = detector.model.pixel_mean.device
    found = detector.model(squared[None].to(device), [target["content_size"]])[0]
    return {name: values.cpu() for name, values in in_original(found, target["content_size"], size).items()}


def detect_files(
    detector: LoadedDetector,
    files: Sequence[Path],
    out: Path,
    *,
    threshold: float,
    on_image: OnImage = lambda done, total: None,
) -> list[dict[str, Any]]:
    """Detect on image files and draw each one; photographs are turned as their EXIF data say.

    Images that cannot be read are left out, with a warning.

    Args:
        detector: the trained detector.
        files: images; the i-th one gets ``image_id`` i, from 1 on.
        out: folder for the pictures, named after the images.
        threshold: detections below this score are left out.
        on_image: told how many images are done, of how many.

    Returns:
        Detections in COCO's results format, with the file as "file_name".

    Raises:
        UserError: no image can be read, or ``out`` is the folder of one.
    """
    results: list[dict[str, Any]] = []
    pictures = picture_files(files, out)
    for number, image in read_images(files, on_image):
        found = above(detect(detector, image), threshold)
        rows = coco_results(found, number, detector.categories)
        results += [{**row, "file_name": str(files[number - 1])} for row in rows]
        save_picture(draw_detections(image, found, detector.categories), pictures[number - 1])
    return results


def draw_beside_truth(
    detector: LoadedDetector, dataset: CocoDetection, indices: Sequence[int], out: Path, *, threshold: float
) -> list[Path]:
    """Draw images of a data set twice side by side: what was found, and what is there.

    Args:
        detector: the trained detector.
        dataset: without a transform.
        indices: which images.
        out: folder for the pictures.
        threshold: detections below this score are not drawn.

    Returns:
        The files written.
    """
    files = []
    for index, name in zip(indices, picture_names([dataset.images[index].path for index in indices]), strict=True):
        image, target = dataset[index]
        pixels = image.as_subclass(Tensor)
        found = draw_detections(pixels, above(detect(detector, pixels), threshold), detector.categories)
        truth = draw_detections(pixels, target, dataset.categories)
        file = out / name
        save_picture(side_by_side(found, truth, (f"found (score >= {threshold})", "truth")), file)
        files.append(file)
    return files
