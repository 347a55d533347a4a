"""Detections from the network's input to the original image, and to COCO's results format."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as rle
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.ops import box_convert

from botvision.data import Category
from botvision.tasks.detection.transforms import to_original

MASK_THRESHOLD = 0.5


def in_original(
    detections: dict[str, Tensor], content_size: tuple[int, int], original_size: tuple[int, int]
) -> dict[str, Tensor]:
    """Move detections from the network's input to the image that it was made from.

    Args:
        detections: of one image, as :class:`~botvision.tasks.detection.rcnn.RCNN` gives them.
        content_size: (height, width) that the image had in the input, in pixels.
        original_size: (height, width) of the image, in pixels.

    Returns:
        "boxes" (D, 4) as x1, y1, x2, y2 in pixels, "labels" (D,), "scores" (D,), and "masks" (D, height, width) bool
        where the detector finds masks.
    """
    boxes = to_original(detections["boxes"], content_size, original_size)
    found = {**detections, "boxes": boxes}
    if "masks" in detections:
        pasted = paste_masks_in_image(detections["masks"], boxes, original_size)[:, 0]
        found["masks"] = pasted > MASK_THRESHOLD
    return found


def coco_results(detections: dict[str, Tensor], image_id: int, categories: Sequence[Category]) -> list[dict[str, Any]]:
    """Detections of one image in COCO's results format.

    Args:
        detections: from :func:`in_original`.
        image_id: COCO id of the image.
        categories: label i stands for ``categories[i - 1]``.

    Returns:
        For each detection "image_id", "category_id", "bbox" [x, y, width, height] in pixels, "score", and, where
        there are masks, "segmentation" as run lengths.
    """
    boxes = box_convert(detections["boxes"].float(), "xyxy", "xywh")
    rows = zip(boxes.tolist(), detections["labels"].tolist(), detections["scores"].tolist(), strict=True)
    results: list[dict[str, Any]] = [
        {
            "image_id": image_id,
            "category_id": categories[label - 1].id,
            "bbox": [round(side, 3) for side in box],
            "score": round(score, 6),
        }
        for box, label, score in rows
    ]
    if "masks" in detections and results:
        columns = np.asfortranarray(detections["masks"].cpu().numpy().astype(np.uint8).transpose(1, 2, 0))
        for result, runs in zip(results, rle.encode(columns), strict=True):
            result["segmentation"] = {"size": list(runs["size"]), "counts": as_text(runs["counts"])}
    return results


def as_text(counts: bytes | str) -> str:
    """Compressed run lengths as text, for JSON."""
    return counts.decode() if isinstance(counts, bytes) else counts


def above(detections: dict[str, Tensor], score: float) -> dict[str, Tensor]:
    """The detections that score at least ``score``."""
    keep = detections["scores"] >= score
    return {name: values[keep] for name, values in detections.items()}
