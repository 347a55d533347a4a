"""What an evaluation of a classifier shows beside its scores: confusions, calibration, the most confident mistakes."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from botvision.data import read_image
from botvision.data.images import UnreadableImage
from botvision.data.stored import stored_channels
from botvision.errors import printable
from botvision.pages import jpeg
from botvision.pictures import SIDE, resized

MISTAKES = 12
"""Mistakes that are shown."""


def analyse(
    rows: Sequence[dict[str, Any]], matrix: np.ndarray, class_names: Sequence[str], bins: int
) -> dict[str, Any]:
    """What the page of an evaluation needs beside the scores, as plain data.

    Args:
        rows: of :func:`~botvision.tasks.classification.evaluate.judge`.
        matrix: their confusion matrix, (K, K).
        class_names: of the model's classes.
        bins: of confidence, as the calibration error has them.

    Returns:
        "classes", their names; "confusion", [(label, predicted, images)] without zeros; "calibration", [(mean
        confidence, share that is right, images)] of each bin with images; and "mistakes", the most confident ones: of
        each "file", "label" and "predicted" as names, "probability", and "picture" (JPEG in base64) where the image is
        a file of its own.
    """
    wrong = sorted((row for row in rows if not row["top1"]), key=lambda row: (-row["probability"], row["path"]))
    names = unique(class_names)
    return {
        "classes": names,
        "confusion": [(int(label), int(found), int(matrix[label, found])) for label, found in np.argwhere(matrix)],
        "calibration": calibration(rows, bins),
        "mistakes": [mistake(row, names) for row in wrong[:MISTAKES]],
    }


def unique(names: Sequence[str]) -> list[str]:
    """Names of classes, with the class's number where several have the same."""
    count = Counter(names)
    return [name if count[name] == 1 else f"{name} (class {number})" for number, name in enumerate(names)]


def calibration(rows: Sequence[dict[str, Any]], bins: int) -> list[tuple[float, float, int]]:
    """(Mean confidence, share that is right, images) of each bin that has images; a bin has its upper edge."""
    confidence = np.array([row["probability"] for row in rows])
    right = np.array([row["top1"] for row in rows], dtype=float)
    place = np.clip(np.ceil(confidence * bins), 1, bins).astype(int)
    return [
        (round(float(confidence[own].mean()), 4), round(float(right[own].mean()), 4), int(own.sum()))
        for own in (place == number for number in range(1, bins + 1))
        if own.any()
    ]


def mistake(row: dict[str, Any], class_names: Sequence[str]) -> dict[str, Any]:
    """A wrong prediction, as a page shows it."""
    path = Path(row["path"])
    shown = {"file": printable(path.name), "probability": row["probability"]}
    shown |= {name: class_names[row[name]] for name in ("label", "predicted")}
    try:
        return {**shown, "picture": jpeg(resized(read_image(path, channels=stored_channels(path))), SIDE)}
    except (UnreadableImage, OSError):  # it is inside a shard
        return shown
