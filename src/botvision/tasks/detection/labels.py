"""Where the names of detections are written in a picture: each beside its box, and no two on top of each other."""

from collections.abc import Sequence
from itertools import product

import numpy as np

SAME_OBJECT = 0.8
"""Overlap (IoU) of boxes from which on they are drawn as guesses about one object, their names in a stack."""

Plate = tuple[int, int, int, int]
"""Left, top, right and bottom pixel that the name takes, all four included."""


def stacks(boxes: np.ndarray) -> list[list[int]]:
    """Detections by object: each joins the strongest one that it overlaps by `SAME_OBJECT`, or begins a stack.

    Args:
        boxes: (N, 4) as x1, y1, x2, y2, strongest first.

    Returns:
        Indices of the boxes in each stack, strongest first.
    """
    found: list[list[int]] = []
    for index, box in enumerate(boxes):
        firsts = boxes[[stack[0] for stack in found]]
        corners = np.minimum(firsts[:, 2:], box[2:]) - np.maximum(firsts[:, :2], box[:2])
        common = corners.clip(min=0).prod(axis=1)
        union = (firsts[:, 2:] - firsts[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod() - common
        same = np.flatnonzero(common >= SAME_OBJECT * np.maximum(union, 1e-9))
        if len(same):
            found[same[0]].append(index)
        else:
            found.append([index])
    return found


def place_plates(boxes: np.ndarray, sizes: Sequence[tuple[int, int]], picture: tuple[int, int]) -> list[Plate | None]:
    """Where the plates with the names go: inside the picture, and no two of them share a pixel.

    The strongest detection chooses its place first. Names of one object are one below the other; where there is no room
    for all of them together, each is placed alone.

    Args:
        boxes: (N, 4) as x1, y1, x2, y2 in pixels, strongest first.
        sizes: (width, height) of each plate, in pixels.
        picture: (width, height), in pixels.

    Returns:
        A plate for each box, None where no room is left at the box.
    """
    plates: list[Plate | None] = [None] * len(boxes)
    taken = np.empty((0, 4))
    for stack in stacks(boxes):
        for part in (stack, *([index] for index in stack)):
            width, height = max(sizes[index][0] for index in part), sum(sizes[index][1] for index in part)
            place = free_place(boxes[part[0]], width, height, picture, taken) if plates[part[0]] is None else None
            if place is None:
                continue
            left, top = place
            taken = np.concatenate([taken, [[left, top, left + width - 1, top + height - 1]]])
            for index in part:
                plates[index] = (left, top, left + sizes[index][0] - 1, top + sizes[index][1] - 1)
                top += sizes[index][1]
    return plates


def free_place(
    box: np.ndarray, width: int, height: int, picture: tuple[int, int], taken: np.ndarray
) -> tuple[int, int] | None:
    """Left and top of the best free place at a box for a plate of this size; None where there is none."""
    room = np.array(picture) - [width, height]
    if (room < 0).any():
        return None
    places = np.array(places_at(box, width, height)).round().clip(0, room)
    ends = places + np.array([width - 1, height - 1])
    # Rows are places, columns are plates: two plates overlap where each begins before the other ends.
    overlap = (places[:, None] <= taken[:, 2:]) & (taken[:, :2] <= ends[:, None])
    free = np.flatnonzero(~np.any(overlap.all(axis=2), axis=1))
    return (int(places[free[0], 0]), int(places[free[0], 1])) if len(free) else None


def places_at(box: np.ndarray, width: int, height: int) -> list[tuple[float, float]]:
    """Where a plate of this size may be, best first: above its box, below, inside, beside; left and top in pixels."""
    x1, y1, x2, y2 = box.tolist()
    columns = np.unique([*np.arange(x1, x2 - width, width / 4), max(x1, x2 - width)])
    inside = np.arange(y1, y2 - height, height / 2)
    shifted = (x1 - width / 2, x1 - width, x2)
    return [
        *product(columns, (y1 - height, y2)),
        *((x, y) for y in (*inside, y2 - height) for x in columns),
        *product(shifted, (y1 - height, y1, y2 - height, y2)),
    ]
