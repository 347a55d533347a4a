"""Parts that the pages of several tasks have: what was evaluated, confused classes, the training."""

from collections.abc import Iterable, Sequence

from botvision.pages import Cell, Line, grid, heat, legend, line_chart, section, table, text
from botvision.tasks.evaluated import Evaluated

MOST_CLASSES = 24
"""Of a confusion matrix that is drawn; of more classes, those with the most confusions."""
ABOUT = ("checkpoint", "step", "data", "split")
"""What metrics.json says before the scores."""


def headline(runs: Sequence[Evaluated]) -> str:
    """The title of a page."""
    return runs[0].name if len(runs) == 1 else f"{len(runs)} runs"


def what_was_evaluated(runs: Sequence[Evaluated], counts: Sequence[str]) -> str:
    """A line for each run, with what its data hold, and the colours of several."""
    lines = []
    for run, count in zip(runs, counts, strict=True):
        about = [f"experiment {run.experiment}"] if run.experiment else []
        about += [f"{name} {run.scores[name]}" for name in ABOUT if run.scores.get(name) is not None]
        own = f"{run.name}: " if len(runs) > 1 else ""
        lines.append(f'<p class="soft">{text(own + ", ".join([*about, count]))}</p>')
    return "".join(lines) + (legend(run.name for run in runs) if len(runs) > 1 else "")


def numbers(tiles: Iterable[tuple[str, str]]) -> str:
    """The first numbers of a run, large: (name, number)."""
    return grid([f'{text(name)}<div class="number">{text(number)}</div>' for name, number in tiles], "small")


def confusion_table(counts: Iterable[Sequence[int]], classes: Sequence[str], *, nothing: bool) -> str:
    """A confusion matrix as a table; colours are shares of a row.

    Args:
        counts: (true class, predicted class, how often), without what never happened.
        classes: their names.
        nothing: whether the number after the last class stands for no object and for no prediction.
    """
    matrix = {(row, column): count for row, column, count in counts}
    names = [*classes, "nothing"] if nothing else list(classes)
    totals, confused = [0] * len(names), [0] * len(names)
    for (row, column), count in matrix.items():
        totals[row] += count
        if row != column and max(row, column) < len(classes):
            confused[row] += count
            confused[column] += count
    shown = list(range(len(classes)))
    if len(classes) > MOST_CLASSES:
        shown = sorted(sorted(shown, key=lambda label: (-confused[label], -totals[label], label))[:MOST_CLASSES])
    shown += [len(classes)] * nothing
    rows = []
    for row in shown:
        cells: list[str] = [Cell(f"<th>{text(names[row])}</th>")]
        for column in shown:
            count = matrix.get((row, column), 0)
            about = f"{names[row]} taken for {names[column]}: {count} of {totals[row]}"
            cells.append(heat(count or "", count / max(1, totals[row]), about))
        rows.append(cells)
    drawn = table(["", *(names[label] for label in shown)], rows, "heat")
    left_out = f'<p class="soft">The {MOST_CLASSES} of {len(classes)} classes that are confused most.</p>'
    return (left_out if len(classes) > MOST_CLASSES else "") + drawn


def training_section(run: Evaluated, *, named: bool) -> str:
    """Losses and scores over the steps of the training."""
    charts = [
        line_chart(title, [Line(name, own) for name, own in curves.items()], "step")
        for title, curves in (("losses", run.losses), ("scores of the evaluations", run.history))
        if curves
    ]
    return section(f"Training of {run.name}" if named else "Training", "", grid(charts, "wide"))
