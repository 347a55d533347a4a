"""Masks in COCO's three forms: polygons, run lengths as a list, run lengths as a compressed string."""

import reprlib
from collections.abc import Sequence
from math import dist
from operator import mul
from typing import Any

import torch
from hotcoco import mask as coco_mask
from torch import Tensor

# Rasterising walks along every edge, so wild coordinates would take all memory.
FARTHEST_COORDINATE = 100_000.0
LONGEST_OUTLINE = 5_000_000.0
NUMBERS = {int, float}
MORE = 32
"""Bit of a letter of compressed run lengths: the number goes on in the next one."""


def usable_segmentation(segmentation: object, height: int, width: int) -> list | dict | None:
    """Check a `segmentation` field and bring it to a form that `run_lengths` takes.

    Args:
        segmentation: from the annotation file.
        height, width: of the image, in pixels.

    Returns:
        Polygons of at least three points; run lengths compressed; None where no pixel of the image is covered
        or a coordinate is not a finite number of pixels near the image.

    Raises:
        ValueError: the field is none of COCO's three forms, or is not about an image of this size.
    """
    if isinstance(segmentation, dict):
        return _usable_runs(segmentation, height, width)
    if isinstance(segmentation, list):
        return _usable_polygons(segmentation, height, width)
    raise ValueError("must be a list of polygons or a run-length object with 'size' and 'counts'")


def run_lengths(segmentation: list | dict | None, height: int, width: int) -> dict:
    """Compressed run lengths of what `usable_segmentation` returned; None is the mask without a pixel."""
    if isinstance(segmentation, list) and segmentation:
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    runs: Any = segmentation or {"size": [height, width], "counts": [height * width]}
    return coco_mask.merge([runs])  # of one mask: itself, compressed


def decode_masks(segmentations: Sequence[list | dict | None], height: int, width: int) -> Tensor:
    """Masks of one image: uint8 0 or 1, shape (N, height, width), from what `usable_segmentation` returned."""
    if not segmentations:
        return torch.zeros((0, height, width), dtype=torch.uint8)
    runs = [run_lengths(segmentation, height, width) for segmentation in segmentations]
    columns_first = coco_mask.decode(runs).transpose(2, 1, 0)  # (N, width, height), as the runs are ordered
    return torch.from_numpy(columns_first).transpose(1, 2).contiguous()


def mask_area(segmentation: list | dict | None, height: int, width: int) -> int:
    """Pixels that the mask covers."""
    return int(coco_mask.area(run_lengths(segmentation, height, width)))


def mask_box(segmentation: list | dict, height: int, width: int) -> list[float]:
    """The smallest box around the mask: [x, y, width, height] in pixels."""
    return coco_mask.toBbox(run_lengths(segmentation, height, width)).tolist()


def _usable_runs(segmentation: dict, height: int, width: int) -> dict | None:
    if segmentation.get("size") != [height, width]:
        raise ValueError(f"has size {reprlib.repr(segmentation.get('size'))}, its image is [{height}, {width}]")
    counts: Any = segmentation.get("counts")
    try:
        if isinstance(counts, str):
            runs = coco_mask.rle_from_string(counts, height, width)
            ends_early = fits(counts, height * width - 1) or (ord(counts[-1]) - 48) & MORE
        else:
            ends_early = set(map(type, counts)) != {int} or sum(counts) != height * width
            runs = run_lengths({"size": [height, width], "counts": counts}, height, width)
        if ends_early:
            raise ValueError("other lengths")
    except (TypeError, ValueError) as error:
        raise ValueError(f"has 'counts' that are no run lengths of {height} x {width} pixels") from error
    return runs if coco_mask.area(runs) else None


def fits(counts: str, pixels: int) -> bool:
    """Whether compressed run lengths cover no more than so many pixels."""
    try:
        coco_mask.rle_from_string(counts, 1, pixels)
    except ValueError:
        return False
    return True


def _usable_polygons(polygons: list, height: int, width: int) -> list | None:
    kept = []
    sure = False
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) % 2 or not set(map(type, polygon)) <= NUMBERS:
            raise ValueError("must hold polygons, each a list of numbers [x1, y1, x2, y2, ...] of an even length")
        if len(polygon) < 6:
            continue
        x, y = polygon[0::2], polygon[1::2]
        left, right, top, bottom = min(x), max(x), min(y), max(y)
        if not (-FARTHEST_COORDINATE < min(left, top) <= max(right, bottom) < FARTHEST_COORDINATE):
            return None
        area, outline = _area_and_outline(x, y)
        if not outline < LONGEST_OUTLINE:  # also where a coordinate is not a number
            return None
        kept.append(polygon)
        # Some point inside is at least area / outline away from the outline: at 1 pixel, a pixel is covered.
        sure = sure or (area > outline and min(left, top) >= 0 and right <= width and bottom <= height)
    return kept if sure or (kept and mask_area(kept, height, width)) else None


def _area_and_outline(x: list, y: list) -> tuple[float, float]:
    """Area in square pixels, and the length of the outline in pixels."""
    doubled = sum(map(mul, x, y[1:] + y[:1])) - sum(map(mul, y, x[1:] + x[:1]))
    points = list(zip(x, y, strict=True))
    return abs(doubled) / 2, sum(map(dist, points, points[1:] + points[:1]))
