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
    for name, points in read_curves(table).items():
        axes.plot(*zip(*points, strict=True), label=name, marker="." if len(points) < 30 else "")
    axes.set(title=title, xlabel="step")
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize=8)


def read_curves(table: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of each column that a task has of its own in a table of a run, without empty fields and columns."""
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name not in COLUMNS] if rows else []
    curves = {name: [(int(row["step"]), float(row[name])) for row in rows if row[name]] for name in names}
    return {name: points for name, points in curves.items() if points}
