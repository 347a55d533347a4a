"""`botvision paper`, and its part `botvision paper context`."""

from collections.abc import Iterator
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from cyclopts import App
from rich.table import Table

from botvision.cli.context import context
from botvision.cli.examples import examples
from botvision.cli.fields import flag_of
from botvision.cli.output import print_results
from botvision.configuration import FieldError
from botvision.errors import UserError, nearest
from botvision.experiments.measured import MeasuredRow, OtherRun, find_runs, measure
from botvision.experiments.paper import FIGURES, TABLES, PaperTable

RUNS = Path("runs")
"""Where `botvision train` puts run folders."""


paper = App(name="paper", version_flags=(), help_epilogue=examples("paper"))
paper.command(context, help_epilogue=examples("paper context"))


@paper.default
def tables(table: str | None = None, /, *, runs: Path | None = None, json: bool = False, markdown: bool = False) -> int:
    """Show the tables of the paper: what is published, what was measured here, what was not run, and how to run it.

    Parameters and multiply-adds are counted; the other figures are of finished runs with exactly the settings of a row.

    Args:
        table: table1 to table10, or figure5; all by default.
        runs: A run, or a folder of runs; the folder runs by default, where there is one.
        json: Print as JSON.
        markdown: Print as Markdown.
    """
    if table is not None and table not in TABLES:
        raise UserError(f"unknown table {table!r}{nearest(table, list(TABLES))}")
    if json and markdown:
        raise FieldError(("markdown",), "and --json are two formats; choose one")
    found = find_runs(runs or RUNS) if runs or RUNS.is_dir() else []
    chosen = [TABLES[table]] if table else TABLES.values()
    rows = [(entry, measure(entry, found)) for entry in chosen]
    content = [
        {"table": entry.key, "title": entry.title, "rows": [plain(row) for row in measured]} for entry, measured in rows
    ]
    lines = (line for entry, measured in rows for line in (in_markdown if markdown else in_text)(entry, measured))
    print_results(content, lines, as_json=json)
    return 0


def command(row: MeasuredRow) -> str:
    """What runs a row, or counts it where there is nothing to train."""
    return (
        f"botvision train {row.name} --data DIR"
        if row.row.experiment
        else f"botvision models {row.name.partition('/')[2]}"
    )


def plain(row: MeasuredRow) -> dict[str, Any]:
    """A row as plain data, in the paper's units."""
    return {
        "row": row.name,
        "command": command(row),
        "published": dict(row.row.published),
        "measured": dict(row.measured),
        "not_run": row.not_run,
        "runs": [str(folder) for folder in row.runs],
        "other_runs": [{**asdict(other), "folder": str(other.folder)} for other in row.others],
        "note": row.row.note,
    }


def cells(row: MeasuredRow) -> tuple[list[str], list[str], list[str]]:
    """The figures that are published, those that were measured, and those that were not."""
    published = [
        FIGURES[name].show(value, printed=True) for name, value in row.row.published.items() if value is not None
    ]
    measured = [FIGURES[name].show(value) for name, value in row.measured.items()]
    if len(row.runs) > 1:
        measured.append(f"(mean of {len(row.runs)} runs)")
    return published, measured, [FIGURES[name].label for name in row.not_run]


def remarks(rows: list[MeasuredRow]) -> Iterator[str]:
    """What is to be said of single rows: why a count differs from the paper's, and which runs do not count."""
    for note, noted in groupby(rows, lambda row: row.row.note):
        if note:
            yield f"{', '.join(row.name for row in noted)}: {note}"
    yield from (f"{row.name}: {other.folder} {why_not(other)}" for row in rows for other in row.others)


def why_not(other: OtherRun) -> str:
    """Why a run is no measurement of its row, and what it measured."""
    steps = f"step {other.step:,} of {other.steps:,}"
    why = f"changed: {', '.join(map(flag_of, other.changed))}" if other.changed else "unfinished, or other data"
    figures = ", ".join(FIGURES[name].show(value) for name, value in other.figures.items())
    return f"does not count ({why}): {figures or 'no scores'} at {steps}"


def in_text(table: PaperTable, rows: list[MeasuredRow]) -> Iterator[Any]:
    """A table for a terminal, and its commands below it."""
    yield f"{table.heading}: {table.title}"
    shown = Table("row", "published", "measured", "not run")
    for row in rows:
        shown.add_row(row.name, *("\n".join(cell) for cell in cells(row)))
    yield shown
    yield from remarks(rows)
    yield from (f"  {command(row)}" for row in rows)
    yield ""


def in_markdown(table: PaperTable, rows: list[MeasuredRow]) -> Iterator[str]:
    """A table as lines of Markdown."""
    yield f"## {table.heading}: {table.title}\n"
    yield "| row | published | measured | not run | command |\n| --- | --- | --- | --- | --- |"
    for row in rows:
        yield f"| {row.name} | {' | '.join(', '.join(cell) for cell in cells(row))} | `{command(row)}` |"
    yield "".join(f"\n- {remark}" for remark in remarks(rows)) + "\n"
