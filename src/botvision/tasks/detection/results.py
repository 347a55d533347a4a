"""Detections from the network's input to the original image, and to COCO's results format."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from hotcoco import mask as rle
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.models.detection.roi_heads import expand_boxes, expand_masks
from torchvision.ops import box_convert

from botvision.data import Category
from botvision.tasks.detection.transforms import points_to_original, to_original

MASK_THRESHOLD = 0.5


def in_original(
    detections: dict[str, Tensor], content_size: tuple[int, int], original_size: tuple[int, int]
) -> dict[str, Tensor]:
    """Move the "boxes" and "keypoints" of an image's detections from the network's input to the image itself.

    "masks" stay (D, 1, 28, 28), probabilities inside the box: 100 masks as large as a photograph would take gigabytes.
    """
    moved = {**detections, "boxes": to_original(detections["boxes"], content_size, original_size)}
    if "keypoints" in detections:
        moved["keypoints"] = points_to_original(detections["keypoints"], content_size, original_size)
    return moved


def coco_results(
    detections: dict[str, Tensor], image_id: int, categories: Sequence[Category], size: tuple[int, int]
) -> list[dict[str, Any]]:
    """Detections, or true objects, of one image in COCO's results format.

    Args:
        detections: "boxes" (D, 4) as x1, y1, x2, y2 in pixels, "labels" (D,), "scores" (D,) of detections, and
            optionally "masks", either probabilities inside the box, (D, 1, 28, 28), or 0 and 1, (D, height, width), and
            "keypoints" (D, K, 3), x and y in pixels and a score or the visibility.
        image_id: COCO id of the image.
        categories: label i stands for ``categories[i - 1]``.
        size: (height, width) of the image, in pixels.

    Returns:
        For each detection "image_id", "category_id", "bbox" [x, y, width, height] in pixels, "score" where there are
        scores, "segmentation" as run lengths where there are masks, and "keypoints" where the category has some: x, y
        and score or visibility of each, one after the other. COCO counts x and y from the middle of the first pixel, so
        that 0.5 is taken off.
    """
    boxes = box_convert(detections["boxes"].float(), "xyxy", "xywh").tolist()
    ids = [categories[label - 1].id for label in detections["labels"].tolist()]
    results: list[dict[str, Any]] = [
        {"image_id": image_id, "category_id": category, "bbox": [round(side, 3) for side in box]}
        for category, box in zip(ids, boxes, strict=True)
    ]
    if "scores" in detections:
        for result, score in zip(results, detections["scores"].tolist(), strict=True):
            result["score"] = round(score, 6)
    if "masks" in detections:
        masks = detections["masks"].cpu()
        placed = pasted(masks, detections["boxes"].cpu(), size) if masks.ndim == 4 else ((0, 0, mask) for mask in masks)
        for result, (top, left, mask) in zip(results, placed, strict=True):
            result["segmentation"] = run_lengths(mask.numpy(), top, left, size)
    if "keypoints" in detections:
        points = detections["keypoints"].double().cpu() - torch.tensor([0.5, 0.5, 0], dtype=torch.float64)
        with_keypoints = {category.id for category in categories if category.keypoints}
        for result, own in zip(results, points.flatten(start_dim=1).tolist(), strict=True):
            if result["category_id"] in with_keypoints:
                result["keypoints"] = [round(value, 3) for value in own]
    return results


def pasted(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> Iterator[tuple[int, int, Tensor]]:
    """Masks in pixels of the image, one after the other, each only where its box is.

    The pixels are those of torchvision's ``paste_masks_in_image(...) > 0.5``, which makes all of them in the size of
    the image at once.

    Args:
        masks: (D, 1, M, M), probabilities inside the box.
        boxes: (D, 4) as x1, y1, x2, y2 in pixels.
        size: (height, width) of the image, in pixels.

    Yields:
        Top and left in pixels, and the mask there, (h, w) bool, inside the image; h or w is 0 outside it.
    """
    height, width = size
    padded, scale = expand_masks(masks, padding=1)
    corners = expand_boxes(boxes, scale).long().tolist()
    for mask, (x1, y1, x2, y2) in zip(padded, corners, strict=True):
        whole = max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)
        mask = interpolate(mask[None], size=whole, mode="bilinear", align_corners=False)[0, 0] > MASK_THRESHOLD
        top, left = max(y1, 0), max(x1, 0)
        yield top, left, mask[top - y1 : max(height - y1, 0), left - x1 : max(width - x1, 0)]


def run_lengths(mask: np.ndarray, top: int, left: int, size: tuple[int, int]) -> dict[str, Any]:
    """COCO's compressed run lengths of a mask that is given only where it may be 1.

    Args:
        mask: (h, w) of 0 and 1.
        top, left: where it begins in the image, in pixels.
        size: (height, width) of the image, in pixels.
    """
    height, width = size
    columns = np.zeros((mask.shape[1], mask.shape[0] + 2), dtype=bool)  # with a 0 above and below each column
    columns[:, 1:-1] = mask.T
    x, y = np.nonzero(columns[:, 1:] != columns[:, :-1])
    edges = (left + x) * height + top + y  # where runs of 1 begin and end, in turn, column after column
    joined = np.flatnonzero(edges[1:-1:2] == edges[2::2])  # a run goes on at the top of the next column
    edges = np.delete(edges, np.concatenate([2 * joined + 1, 2 * joined + 2]))
    if len(edges) and edges[-1] == height * width:
        edges = edges[:-1]  # COCO writes no run of length 0 at the end
    counts = np.diff(edges, prepend=0, append=height * width).tolist()
    runs = rle.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return {"size": [height, width], "counts": runs["counts"].decode()}  # as text, for JSON


def above(detections: dict[str, Tensor], score: float) -> dict[str, Tensor]:
    """The detections that score at least ``score``."""
    keep = detections["scores"] >= score
    return {name: values[keep] for name, values in detections.items()}
