"""The table of :mod:`botvision.experiments.context` as text, Markdown and a picture."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure
from rich.table import Column, Table

from botvision.experiments.context import CHANCE, COLUMNS, DETECT, MOST_FREQUENT, ROWS, Predicted, Results
from botvision.files import whole_file, write_text
from botvision.models import Network
from botvision.models.counting import receptive_field

PREDICTED: dict[Predicted, str] = {
    "chance": f"chance, {CHANCE:.0%}",
    "most frequent": f"at most {MOST_FREQUENT:.1%}",
    "solved": "solved",
}


@dataclass(frozen=True)
class Entry:
    """A row and a column of the table."""

    row: str
    column: str
    scores: tuple[float, ...]
    """In percent, by seed; empty where nothing was trained."""

    @property
    def predicted(self) -> str:
        """What was predicted."""
        return PREDICTED[ROWS[self.row].predicted[self.column]]

    @property
    def measured(self) -> str:
        """The mean of the seeds, and the range of several."""
        if not self.scores:
            return "not run"
        spread = f" ({min(self.scores):.1f} to {max(self.scores):.1f})" if len(self.scores) > 1 else ""
        return f"{fmean(self.scores):.1f}{spread}"


def entries(results: Results) -> Iterator[Entry]:
    """The table, row by row."""
    for row, entry in ROWS.items():
        for column in COLUMNS:
            if column != DETECT or entry.detector:
                found = [cell for cell in results.cells if (cell.row, cell.column) == (row, column)]
                found.sort(key=lambda cell: cell.seed)
                yield Entry(row, column, tuple(100 * results.cells[cell]["score"] for cell in found))


def fields_of_view() -> dict[str, int]:
    """Pixels that convolutions see in each row, computed from the network."""
    return {row: receptive_field(Network(entry.network, features_only=True)) for row, entry in ROWS.items()}


def seen(row: str, pixels: int) -> str:
    """What a cell of c5 sees."""
    return f"{pixels} px" if ROWS[row].predicted["what"] == "chance" else f"{pixels} px, then all"


def plain(results: Results) -> dict[str, Any]:
    """The table as plain data: scores in percent, the receptive field in pixels."""
    views = fields_of_view()
    table = [
        {
            "row": entry.row,
            "column": entry.column,
            "receptive_field": views[entry.row],
            "predicted": entry.predicted,
            "scores": list(entry.scores),
        }
        for entry in entries(results)
    ]
    return {"columns": COLUMNS, "recipe": results.recipe.plain(), "table": table}


def rows_of(results: Results) -> Iterator[list[str]]:
    """The cells of each line: row, receptive field, and in each column what was measured and predicted."""
    views, table = fields_of_view(), {(entry.row, entry.column): entry for entry in entries(results)}
    for row, view in views.items():
        found = [table.get((row, column)) for column in COLUMNS]
        yield [row, seen(row, view), *(f"{entry.measured}; {entry.predicted}" if entry else "" for entry in found)]


def in_text(results: Results) -> Iterator[Any]:
    """The table for a terminal."""
    yield "Context: right answers in %, mean of the seeds (smallest to largest); below it what was predicted"
    shown = Table(Column("row", no_wrap=True), "sees", *COLUMNS)
    for cells in rows_of(results):
        shown.add_row(*(cell.replace("; ", "\n") for cell in cells))
    yield shown
    yield from (f"{name}: {what}" for name, what in COLUMNS.items())


def in_markdown(results: Results, command: str) -> Iterator[str]:
    """The page of the results, with the command that makes it."""
    recipe, seeds = results.recipe, sorted({cell.seed for cell in results.cells})
    hours = sum(measured["seconds"] for measured in results.cells.values()) / 3600
    yield "# Context: what attention sees and convolutions do not\n"
    yield (
        "The class of an object is the colour of a cue elsewhere in a generated image. Networks of one block a stage, "
        f"width 16: {recipe.steps} steps of {recipe.batch_size} new images, scored on {recipe.test_images} others. "
        f"Right answers in %, mean of seeds {', '.join(map(str, seeds))} (smallest to largest); behind them what was "
        f"predicted before the first run of the table. Chance is {CHANCE:.0%}; who sees four cues and not which is on "
        f"the left is right in {MOST_FREQUENT:.1%} at best, by the most frequent colour. "
        "`src/botvision/experiments/context.py` gives the reasons.\n"
    )
    yield f"    {command}\n"
    yield f"| row | sees | {' | '.join(COLUMNS)} |\n|{' --- |' * (2 + len(COLUMNS))}"
    yield from (f"| {' | '.join(cells)} |" for cells in rows_of(results))
    yield ""
    yield from (f"- {name}: {what}" for name, what in COLUMNS.items())
    yield (
        "\n*sees* is the receptive field of a cell of c5, or of the map in front of the first layer that relates all "
        f"positions. Trained in {hours:.1f} hours of single runs, added up.\n\n![right answers](context.png)"
    )


def write_report(results: Results, command: str) -> None:
    """Write README.md and context.png beside the results."""
    folder: Path = results.file.parent
    write_text(folder / "README.md", "\n".join(in_markdown(results, command)) + "\n")
    with whole_file(folder / "context.png") as temporary:
        draw(results).savefig(temporary, dpi=120)


def draw(results: Results) -> Figure:
    """Right answers of each row, a panel for each column, a point for each seed."""
    figure = Figure(figsize=(14, 4), layout="constrained")
    found = list(entries(results))
    for axes, (column, title) in zip(figure.subplots(1, len(COLUMNS)), COLUMNS.items(), strict=True):
        shown = [entry for entry in found if entry.column == column]
        for place, entry in enumerate(shown):
            axes.barh(place, fmean(entry.scores) if entry.scores else 0, color="C0", alpha=0.4)
            axes.plot(entry.scores, [place] * len(entry.scores), "o", color="C0", markersize=4)
        axes.set_yticks(range(len(shown)), [entry.row for entry in shown], fontsize="small")
        axes.invert_yaxis()
        axes.set_xlim(0, 102)
        axes.axvline(100 * CHANCE, color="black", linewidth=1, linestyle=":")
        if column == "which":
            axes.axvline(100 * MOST_FREQUENT, color="black", linewidth=1, linestyle="--")
        axes.set_title(title, fontsize="small")
        axes.set_xlabel("AP50 (%)" if column == DETECT else "right answers (%)")
    return figure
