"""Published accuracy against measured time, the paper's Figure 5, with the models that no other one beats in both."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from textwrap import fill

from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from botvision.benchmarks.model_step import StepReport
from botvision.benchmarks.step_report import NOT_MEASURED
from botvision.benchmarks.timed_models import MODELS


@dataclass(frozen=True)
class Accuracy:
    """What is published about a model."""

    label: str
    """In the picture."""
    family: str
    """Models that a line connects."""
    top1: float | None
    """On ImageNet, in percent; None where the paper draws a point without a number."""
    source: str


@dataclass(frozen=True)
class Point:
    """A model in the figure."""

    model: str
    size: int
    """Image height and width, in pixels."""
    label: str
    family: str
    top1: float | None
    source: str
    batch: int | None
    ms_per_image: float | None
    on_front: bool
    """No other model is as good in less time, or better in the same time."""
    note: str
    """Why there is no time."""


def points(accuracies: Mapping[str, Accuracy], report: StepReport) -> list[Point]:
    """Each published model at its own size, with its time where there is one, in the order of the accuracies."""
    rows = {row.model: row for row in report.rows if row.model in accuracies and row.size == MODELS[row.model].size}
    known = [(accuracies[name].top1, row.ms_per_image) for name, row in rows.items()]
    measured = [(top1, ms) for top1, ms in known if top1 is not None and ms is not None]
    found = []
    for name, accuracy in accuracies.items():
        row = rows.get(name)
        ms = row.ms_per_image if row else None
        on_front = accuracy.top1 is not None and ms is not None and not is_beaten(accuracy.top1, ms, measured)
        found.append(
            Point(
                name,
                MODELS[name].size,
                accuracy.label,
                accuracy.family,
                accuracy.top1,
                accuracy.source,
                row.batch if row else None,
                ms,
                on_front,
                row.note if row else "it was not run",
            )
        )
    return found


def is_beaten(top1: float, ms: float, others: list[tuple[float, float]]) -> bool:
    """Whether one is at least as good in both, and better in one."""
    return any(other >= top1 and time <= ms and (other, time) != (top1, ms) for other, time in others)


def pareto_table(found: list[Point]) -> Table:
    """A line for each model, those of the front marked."""
    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("model", overflow="fold")
    for name in ("size", "top-1 (%)", "batch", "ms/image", "front"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("accuracy from")
    for point in found:
        top1 = "not published" if point.top1 is None else f"{point.top1:.1f}"
        ms = NOT_MEASURED if point.ms_per_image is None else f"{point.ms_per_image:.1f}"
        batch = "" if point.batch is None else str(point.batch)
        table.add_row(point.model, str(point.size), top1, batch, ms, "*" if point.on_front else "", point.source)
    return table


def missing(found: list[Point]) -> list[str]:
    """The models without a point in the figure, and why."""
    lines = []
    unmeasured = sorted((point for point in found if point.ms_per_image is None), key=lambda point: point.note)
    for note, group in groupby(unmeasured, key=lambda point: point.note):
        lines.append(f"{NOT_MEASURED}, {note}: {', '.join(point.label for point in group)}")
    unpublished = [point.label for point in found if point.top1 is None]
    if unpublished:
        lines.append(f"accuracy not published: {', '.join(unpublished)}")
    return lines


def draw_pareto(found: list[Point], report: StepReport) -> Figure:
    """The figure: a line for each family, and the front."""
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots()
    drawn = [(p.ms_per_image, p.top1, p) for p in found if p.ms_per_image is not None and p.top1 is not None]
    for number, family in enumerate(dict.fromkeys(point.family for point in found)):
        members = sorted((ms, top1) for ms, top1, point in drawn if point.family == family)
        if members:
            axes.plot(*zip(*members, strict=True), "o-", color=f"C{number}", label=family)
    for ms, top1, point in drawn:
        place, side = ((-7, 6), "right") if point.on_front else ((5, -11), "left")  # above the front, or below it
        axes.annotate(point.label, (ms, top1), place, textcoords="offset points", fontsize="small", ha=side)
    front = sorted((ms, top1) for ms, top1, point in drawn if point.on_front)
    if front:
        x, y = zip(*front, strict=True)
        axes.plot(x, y, "o--", color="0.6", label="Pareto front", markersize=13, markerfacecolor="none", zorder=0)
    facts = report.conditions
    what = "prediction" if facts.inference else "training step"
    axes.set_xscale("log")
    axes.margins(x=0.12)  # for the labels of the outermost models
    axes.set_xlabel(f"{what}, ms an image: {facts.device}, {facts.dtype}{', compiled' if facts.compiled else ''}")
    axes.set_ylabel("top-1 accuracy on ImageNet (%), as published")
    axes.grid(alpha=0.3)
    if drawn:
        axes.legend(loc="best")
    figure.suptitle("Figure 5 of the paper with times measured here", fontsize="medium")
    figure.supxlabel("\n".join(fill(line, 130) for line in missing(found)), fontsize="x-small")
    return figure
