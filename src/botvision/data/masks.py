"""Masks in COCO's three forms: polygons, run lengths as a list, run lengths as a compressed string."""

import math
from collections.abc import Sequence

import torch
from faster_coco_eval.core import mask as coco_mask
from torch import Tensor

# Rasterising walks along every edge, so a wild coordinate would take all memory.
FARTHEST_COORDINATE = 100_000.0


def usable_segmentation(segmentation: object, height: int, width: int) -> list | dict | None:
    """Check a `segmentation` field and bring it to a form that `decode_masks` takes.

    Args:
        segmentation: from the annotation file.
        height, width: of the image, in pixels.

    Returns:
        Polygons of at least three points; run lengths compressed; None where no area is left
        or a coordinate is not a finite number of pixels near the image.

    Raises:
        ValueError: the field is none of COCO's three forms, or is not about an image of this size.
    """
    if isinstance(segmentation, dict):
        return _usable_runs(segmentation, height, width)
    if isinstance(segmentation, list):
        return _usable_polygons(segmentation)
    raise ValueError("must be a list of polygons or a run-length object with 'size' and 'counts'")


def decode_masks(segmentations: Sequence[list | dict], height: int, width: int) -> Tensor:
    """Masks of one image: uint8 0 or 1, shape (N, height, width), from what `usable_segmentation` returned.

    Raises:
        ValueError: a compressed string ends early, which only decoding shows.
    """
    if not segmentations:
        return torch.zeros((0, height, width), dtype=torch.uint8)
    runs = [s if isinstance(s, dict) else coco_mask.segmToRle(s, width, height) for s in segmentations]
    columns_first = coco_mask.decode(runs).transpose(2, 1, 0)  # (N, width, height), as the runs are ordered
    return torch.from_numpy(columns_first).transpose(1, 2).contiguous()


def _usable_runs(segmentation: dict, height: int, width: int) -> dict | None:
    if segmentation.get("size") != [height, width]:
        raise ValueError(f"has size {segmentation.get('size')}, its image is [{height}, {width}]")
    counts = segmentation.get("counts")
    try:
        complete = not isinstance(counts, list) or sum(counts) == height * width
        runs = coco_mask.segmToRle(segmentation, width, height)
        area = coco_mask.area(runs)
    except (KeyError, TypeError, ValueError, RuntimeError):
        complete = False
    if not complete:
        raise ValueError(f"has 'counts' that are no run lengths of {height} x {width} pixels")
    return runs if area > 0 else None


def _usable_polygons(polygons: list) -> list | None:
    kept = []
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) % 2:
            raise ValueError("must hold polygons, each a list [x1, y1, x2, y2, ...] of an even length")
        if len(polygon) < 6:
            continue
        try:
            finite = math.isfinite(sum(polygon))
            near = max(polygon) < FARTHEST_COORDINATE and min(polygon) > -FARTHEST_COORDINATE
        except TypeError as error:
            raise ValueError("must hold polygons of numbers") from error
        if not (finite and near):
            return None
        kept.append(polygon)
    return kept or None
