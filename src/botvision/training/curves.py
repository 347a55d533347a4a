"""A picture of a run so far: its losses, and its scores."""

import csv
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from botvision.files import whole_file
from botvision.training.metrics import COLUMNS


def draw_curves(folder: Path) -> Path:
    """Draw ``curves.png`` in a run folder from its ``metrics.csv`` and ``evaluations.csv``."""
    figure = Figure(figsize=(12, 4.5), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    draw_table(losses, folder / "metrics.csv", "losses")
    draw_table(scores, folder / "evaluations.csv", "scores")
    file = folder / "curves.png"
    with whole_file(file) as temporary:
        figure.savefig(temporary, dpi=100)
    return file


def draw_table(axes: Axes, table: Path, title: str) -> None:
    """One line for each column that a task has of its own; empty fields are left out."""
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for name in (column for column in rows[0] if column not in COLUMNS) if rows else ():
        points = [(int(row["step"]), float(row[name])) for row in rows if row[name]]
        if points:
            axes.plot(*zip(*points, strict=True), label=name, marker="." if len(points) < 30 else "")
    axes.set(title=title, xlabel="step")
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize=8)
