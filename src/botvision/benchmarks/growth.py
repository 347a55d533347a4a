"""How time and memory grow with the map and with the image, as slopes beside those that the work itself has.

A slope is that of a straight line through the logarithms: a cost that is proportional to the positions has slope 1,
one that is proportional to their square slope 2. The memory of a model has its weights and gradients in it, which do
not grow, so that its slope is below 1.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from rich import box
from rich.table import Table

from botvision.benchmarks.apart import Ended, answers_apart
from botvision.benchmarks.attention_layer import Row, Setting, bench_attention
from botvision.benchmarks.attention_report import short
from botvision.benchmarks.implementations import OURS
from botvision.benchmarks.model_step import ModelSetting, bench_models
from botvision.benchmarks.step_report import NOT_MEASURED, notes
from botvision.errors import UserError
from botvision.models.counting import count_multiply_adds

LAYER = "attention layer"
UNITS = {"ms": "ms", "mib": "MiB"}
HEADS, HEAD_WIDTH = 4, 128
"""Of the attention in c5 of a BoTNet."""


@dataclass(frozen=True)
class Growth:
    """A cost over the sides of square maps or images."""

    subject: str
    """The attention layer, or a model."""
    cost: str
    """What is measured, with its unit."""
    sides: Sequence[int]
    values: Sequence[float | None]
    """One for each side; None where it was not measured."""
    batches: Sequence[int]
    """Images at once for each side: those asked for, or as many as fit in memory."""
    work: Sequence[int] | None = None
    """Multiply-adds for each side, whose slope is the one to expect of a time; memory should be proportional."""

    @property
    def slope(self) -> float | None:
        """Of the measured values; None for fewer than two."""
        return slope(self.sides, self.values)

    @property
    def expected(self) -> float | None:
        """Of the multiply-adds, or 1."""
        return slope(self.sides, self.work) if self.work else 1.0


def slope(sides: Sequence[int], values: Sequence[float | None]) -> float | None:
    """Slope of the logarithm of a value over that of the number of positions, side times side, by least squares."""
    known = [(side * side, value) for side, value in zip(sides, values, strict=True) if value]
    if len(known) < 2:
        return None
    positions, costs = np.log(np.array(known, dtype=float)).T
    return float(np.polyfit(positions, costs, 1)[0])


def grow(
    maps: Sequence[int],
    models: Sequence[str],
    sizes: Sequence[int],
    setting: ModelSetting,
    repeats: int,
    say: Callable[[str], None],
) -> tuple[list[Growth], list[str]]:
    """Measure the attention layer on square maps, and models on square images; gives notes beside the costs.

    Args:
        maps: sides of the maps, in positions.
        models: names of :data:`~botvision.benchmarks.timed_models.MODELS`.
        sizes: sides of the images, in pixels, that all of the models take.
        setting: images at once, and where to run.
        repeats: turns; medians are reported.
        say: called with a line about what is being measured.

    Raises:
        UserError: the process that measures the layer was ended, as where memory runs out.
    """
    say("attention layer")
    with closing(answers_apart(partial(layer_rows, setting=setting, repeats=repeats), [maps])) as answers:
        rows = next(answers)
    if isinstance(rows, Ended):
        raise UserError(f"the process of the attention layer ended with status {rows.status}; choose smaller maps")
    report = bench_models([(name, size) for name in models for size in sizes], setting, repeats, say)
    with torch.device("meta"):
        module = Setting(1, HEADS, HEAD_WIDTH, torch.float32, torch.device("meta")).layer((maps[0], maps[0]))
    work = [count_multiply_adds(module, side, side, HEADS * HEAD_WIDTH) for side in maps]
    costs = {"inference_ms": work, "training_ms": work, "inference_mib": None, "training_mib": None}
    found = []
    for field, expected in costs.items():
        what, unit = field.split("_")
        values = [getattr(row, field) for row in rows]
        per_image = [None if value is None else value / setting.batch for value in values]
        found.append(Growth(LAYER, f"{what} ({UNITS[unit]})", maps, per_image, len(maps) * [setting.batch], expected))
    what = "inference" if setting.inference else "training"
    for name in models:
        steps = [row for row in report.rows if row.model == name]
        madds = [row.multiply_adds or 0 for row in steps]
        batches = [row.batch for row in steps]
        found.append(Growth(name, f"{what} (ms)", sizes, [row.ms_per_image for row in steps], batches, madds))
        per_image = [None if row.peak_mib is None else row.peak_mib / row.batch for row in steps]
        found.append(Growth(name, f"{what} (MiB)", sizes, per_image, batches))
    return found, notes(report, setting.batch)


def layer_rows(maps: Sequence[int], setting: ModelSetting, repeats: int) -> list[Row]:
    """Our attention layer on square maps. Its memory is measured in the process that calls this."""
    layer = Setting(setting.batch, HEADS, HEAD_WIDTH, setting.dtype, setting.device)
    return bench_attention([(side, side) for side in maps], [OURS], layer, repeats, say=lambda line: None)


def growth_table(found: list[Growth]) -> Table:
    """A line for each cost: its values from the smallest to the largest side, and its slope beside the expected one."""
    table = Table("cost an image", "sides", "values", box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    for name in ("slope", "expected"):
        table.add_column(name, justify="right")
    for one in found:
        values = ", ".join(NOT_MEASURED if value is None else short(value) for value in one.values)
        slopes = [NOT_MEASURED if value is None else f"{value:.2f}" for value in (one.slope, one.expected)]
        table.add_row(f"{one.subject}, {one.cost}", ", ".join(map(str, one.sides)), values, *slopes)
    return table


def draw_growth(found: list[Growth], device: str) -> Figure:
    """Four panels: time and memory, of the layer and of the models."""
    figure = Figure(figsize=(9, 6), layout="constrained")
    figure.suptitle(f"Cost over size, with the slopes of the logarithms: {device}", fontsize="medium")
    panels = figure.subplots(2, 2)
    for row, (unit, quantity) in enumerate((("(ms)", "time (ms)"), ("(MiB)", "peak memory (MiB)"))):
        for column, what in enumerate(("positions of the map", "pixels of the image")):
            axes = panels[row][column]
            for one in found:
                if (one.subject == LAYER) != (column == 0) or not one.cost.endswith(unit):
                    continue
                known = [(side * side, value) for side, value in zip(one.sides, one.values, strict=True) if value]
                name = f"{one.subject}, {one.cost.partition(' ')[0]}"
                slopes = "" if one.slope is None else f": {one.slope:.2f}, expected {one.expected:.2f}"
                axes.plot(*zip(*known, strict=True) if known else ((), ()), "o-", label=name + slopes)
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xlabel(what)
            axes.set_ylabel(f"{quantity}, an image")
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.grid(alpha=0.3)
            axes.legend(fontsize="x-small")
    return figure
