"""The page of evaluations of classifiers: one, or several beside each other."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from botvision.pages import Line, bar, figure, grid, line_chart, section, table, text, write_page
from botvision.tasks.evaluated import Evaluated
from botvision.tasks.page_parts import confusion_table, headline, numbers, training_section, what_was_evaluated

SHARES = {"top1": "top-1 (%)", "top5": "top-5 (%)", "ece": "calibration error (%)"}
"""The scores that are shares, as people read them."""


def write_report(path: Path, runs: Sequence[Evaluated]) -> None:
    """Write the page of one or several evaluations."""
    write_page(path, headline(runs), sections(runs))


def sections(runs: Sequence[Evaluated]) -> Iterator[str]:
    """The sections of the page, as HTML."""
    counts = [f"{len(run.analysis['classes'])} classes, {run.scores['images']} images" for run in runs]
    yield what_was_evaluated(runs, counts)
    yield scores_section(runs)
    yield calibration_section(runs)
    yield classes_section(runs)
    yield confusion_section(runs)
    yield mistakes_section(runs)
    yield from (training_section(run, named=len(runs) > 1) for run in runs if run.losses or run.history)


def scores_section(runs: Sequence[Evaluated]) -> str:
    """Top-1 and its companions: large of one run, as a table of several."""
    shown = {run.name: {title: f"{100 * run.scores[name]:.2f}" for name, title in SHARES.items()} for run in runs}
    for run in runs:
        shown[run.name]["loss"] = f"{run.scores['loss']:.4f}"
    if len(runs) == 1:
        return numbers(shown[runs[0].name].items())
    rows = [[title, *(own[title] for own in shown.values())] for title in shown[runs[0].name]]
    return section("Scores", "", table(["", *shown], rows))


def calibration_section(runs: Sequence[Evaluated]) -> str:
    """How often predictions of a confidence are right."""
    lines = [Line(run.name, [(x, y) for x, y, _ in run.analysis["calibration"]]) for run in runs]
    lines.append(Line("perfectly calibrated", [(0.0, 0.0), (1.0, 1.0)]))
    chart = line_chart("share that is right over confidence", lines, "confidence", (0, 1))
    about = "Predictions in 15 bins of confidence; below the diagonal the classifier is surer than it should be."
    return section("Calibration", about, grid([chart], "wide"))


def classes_section(runs: Sequence[Evaluated]) -> str:
    """Top-1 class by class, best first by the first run."""
    right, images = [], []
    for run in runs:
        totals = dict.fromkeys(run.analysis["classes"], 0)
        own = dict(totals)
        for label, predicted, count in run.analysis["confusion"]:
            name = run.analysis["classes"][label]
            totals[name] += count
            own[name] += count * (label == predicted)
        right.append({name: own[name] / totals[name] for name in own if totals[name]})
        images.append(totals)
    names = sorted(dict.fromkeys(name for own in right for name in own), key=lambda name: -right[0].get(name, 0.0))
    rows = []
    for name in names:
        row: list[str] = [name, str(next(own[name] for own in images if own.get(name)))]
        for colour, own in enumerate(right):
            share = own.get(name)
            row += [bar(share, colour), "-" if share is None else f"{100 * share:.1f}"]
        rows.append(row)
    header = ["class", "images"]
    for run in runs:
        header += ["", f"{run.name} (%)" if len(runs) > 1 else "%"]
    return section("Top-1 class by class", "", table(header, rows))


def confusion_section(runs: Sequence[Evaluated]) -> str:
    """Which classes are taken for which."""
    parts = []
    for run in runs:
        parts += [f"<h3>{text(run.name)}</h3>" * (len(runs) > 1)]
        parts += [confusion_table(run.analysis["confusion"], run.analysis["classes"], nothing=False)]
    return section("Confused classes", "Rows are the labels, columns the predictions.", *parts)


def mistakes_section(runs: Sequence[Evaluated]) -> str:
    """The most confident mistakes, with the images where there are files of them."""
    parts = []
    for run in runs:
        shown = []
        for one in run.analysis["mistakes"]:
            caption = (
                f"{text(one['file'])}: {text(one['predicted'])} ({100 * one['probability']:.1f} %), "
                f"labelled {text(one['label'])}"
            )
            shown.append(figure(one["picture"], caption) if "picture" in one else caption)
        parts += [f"<h3>{text(run.name)}</h3>" * (len(runs) > 1), grid(shown, "small")]
    return section("The most confident mistakes", "", *parts)
