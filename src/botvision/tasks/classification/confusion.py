"""Which classes are taken for which: counts, the pairs that are confused most, and a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from rich.table import Table

from botvision.files import whole_file

PAIRS = 10
"""Confused pairs that are listed."""
DOTS_PER_INCH = 200  # 1000 classes on the largest matrix get two pixels each
LARGEST_SIDE = 10.0  # inches, of the matrix
LEAST_FONT = 4.5  # points; smaller letters cannot be read
LONGEST_NAME = 24  # letters


def confusion_matrix(predictions: Sequence[dict[str, Any]], classes: int) -> np.ndarray:
    """(K, K) whole numbers: images whose "label" is the row and whose "predicted" class is the column."""
    pairs = [prediction["label"] * classes + prediction["predicted"] for prediction in predictions]
    return np.bincount(np.array(pairs, dtype=np.int64), minlength=classes**2).reshape(classes, classes)


def most_confused(matrix: np.ndarray, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """The pairs of classes that are confused most, by number of images.

    Returns:
        Of at most :data:`PAIRS` pairs the names of "label" and "predicted", "images", and "share" of the label's.
    """
    wrong = matrix * (1 - np.eye(len(matrix), dtype=matrix.dtype))
    order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    places = [divmod(int(place), len(matrix)) for place in order]
    return [
        {
            "label": class_names[label],
            "predicted": class_names[predicted],
            "images": int(wrong[label, predicted]),
            "share": float(wrong[label, predicted] / matrix[label].sum()),
        }
        for label, predicted in places
        if wrong[label, predicted]
    ]


def confused_table(pairs: Sequence[dict[str, Any]]) -> Table:
    """The pairs of :func:`most_confused` as a table."""
    table = Table("confused most", "taken for", "images", "of the class (%)")
    for pair in pairs:
        table.add_row(pair["label"], pair["predicted"], str(pair["images"]), f"{100 * pair['share']:.1f}")
    return table


def save_confusion(matrix: np.ndarray, class_names: Sequence[str], path: Path) -> None:
    """Draw a confusion matrix, each row as shares of its class, with the most confused pairs beside it.

    Names stand at the axes, and numbers in the cells, where they are large enough to be read.
    """
    side = min(max(0.4 * len(matrix), 4.0), LARGEST_SIDE)
    cell = 72 * side / len(matrix)  # points
    names = [shortened(name) for name in class_names] if 0.8 * cell >= LEAST_FONT else []
    font = min(9.0, 0.8 * cell)
    figure = Figure(figsize=(side, side), dpi=DOTS_PER_INCH)  # what stands around the matrix is added when it is saved
    axes = figure.add_axes((0, 0, 1, 1))
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    # The cube root shows rare confusions too, beside a strong diagonal.
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(1 / 3, 0, 1), interpolation="nearest")
    bar = figure.add_axes((1 + 0.1 / side, 0, 0.15 / side, 1))
    figure.colorbar(image, cax=bar, ticks=(0, 0.01, 0.05, 0.1, 0.25, 0.5, 1), format=PercentFormatter(1, decimals=0))
    unit = "" if names else " (number of the class)"
    axes.set(xlabel=f"predicted{unit}", ylabel=f"label{unit}")
    if names:
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=font, parse_math=False)
        axes.set_yticks(range(len(names)), names, fontsize=font, parse_math=False)
    if names and cell >= 14:  # where four digits fit
        for row, column in np.argwhere(matrix):
            colour = "white" if shares[row, column] > 0.2 else "black"
            size = min(12.0, 0.35 * cell)
            axes.text(column, row, str(matrix[row, column]), ha="center", va="center", fontsize=size, color=colour)
    text = pairs_text(matrix, class_names)
    figure.text(1 + 0.9 / side, 1, text, va="top", fontsize=8, linespacing=1.6, parse_math=False)
    with whole_file(path) as temporary:
        figure.savefig(temporary, bbox_inches="tight")


def pairs_text(matrix: np.ndarray, class_names: Sequence[str]) -> str:
    """The most confused pairs in words, a line each."""
    pairs = most_confused(matrix, class_names)
    lines = [
        f"{pair['images']} x {shortened(pair['label'])} taken for {shortened(pair['predicted'])}" for pair in pairs
    ]
    return "\n".join(["Confused most:", *lines] if lines else ["Nothing is confused."])


def shortened(name: str) -> str:
    """A name, cut where it is too long for its place."""
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
