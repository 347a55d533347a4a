"""The page of evaluations of detectors: one, or several beside each other."""

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

from botvision.pages import Cell, Line, bar, figure, grid, line_chart, section, table, text, write_page
from botvision.tasks.detection.analysis import BACKGROUND, CURVES, MATCH
from botvision.tasks.detection.coco import percent
from botvision.tasks.detection.truth import KINDS
from botvision.tasks.evaluated import Evaluated
from botvision.tasks.page_parts import confusion_table, headline, numbers, training_section, what_was_evaluated

SIZES = {"small": "below 32 x 32 pixels", "medium": "32 x 32 to 96 x 96 pixels", "large": "above 96 x 96 pixels"}
MEANINGS = {
    "classification": "at the right place, of a wrong class",
    "localisation": f"of the right class, IoU only {BACKGROUND} to {MATCH}",
    "both": f"of a wrong class, IoU only {BACKGROUND} to {MATCH}",
    "duplicate": "an object that a stronger detection has found already",
    "background": f"no object there (IoU up to {BACKGROUND})",
    "missed": "an object that nothing of the above is about",
}


def write_report(path: Path, runs: Sequence[Evaluated]) -> None:
    """Write the page of one or several evaluations."""
    write_page(path, headline(runs), sections(runs))


def sections(runs: Sequence[Evaluated]) -> Iterator[str]:
    """The sections of the page, as HTML; those without content are left out."""
    yield heading(runs)
    scored = [run for run in runs if any(kind in run.scores for kind in KINDS)]
    if scored:
        yield scores_section(scored)
        yield curves_section(scored)
    judged = [run for run in runs if run.analysis.get("kind")]
    if judged:
        yield errors_section(judged)
        yield classes_section(judged)
        yield confusion_section(judged)
        yield worst_section(judged)
    yield from (training_section(run, named=len(runs) > 1) for run in runs if run.losses or run.history)


def heading(runs: Sequence[Evaluated]) -> str:
    """What was evaluated, and of one run the first numbers."""
    of = [(run.analysis.get("classes", []), run.analysis.get("objects", [])) for run in runs]
    about = what_was_evaluated(runs, [f"{len(classes)} classes, {sum(objects)} objects" for classes, objects in of])
    if len(runs) > 1:
        return about
    return about + numbers(
        (f"{column.kind} {label} (%)", percent(column.run.scores[column.kind].get(name)))
        for column in columns(runs)
        for name, label in (("ap", "AP"), ("ap50", "AP50"))
    )


class Column(NamedTuple):
    """What a table says of a run and a kind."""

    name: str
    run: Evaluated
    kind: str
    colour: int
    """Of several runs that of the run, of one that of the kind."""


def columns(runs: Sequence[Evaluated]) -> list[Column]:
    """One for each kind of each run that was scored."""
    several = len(runs) > 1
    return [
        Column(f"{run.name}: {kind}" if several else kind, run, kind, number if several else place)
        for (place, kind), (number, run) in product(enumerate(KINDS), enumerate(runs))
        if kind in run.scores
    ]


def scores_section(runs: Sequence[Evaluated]) -> str:
    """COCO's numbers, and AP by size as bars."""
    of = columns(runs)
    metrics = dict.fromkeys(metric for column in of for metric in column.run.scores[column.kind])
    rows = [[label(metric), *(percent(c.run.scores[c.kind].get(metric)) for c in of)] for metric in metrics]
    all_numbers = table(["%", *(column.name for column in of)], rows)
    bars: list[list[str]] = []
    for size, column in product(SIZES, of):
        share = column.run.scores[column.kind].get(f"ap_{size}")
        if share is not None:
            bars.append([f"{size}, {column.name}", bar(share, column.colour), percent(share)])
    sizes = "<h3>AP by size of object</h3>" + table(["", "", "AP (%)"], bars)
    sizes += f'<p class="soft">{text("; ".join(f"{size}: {area}" for size, area in SIZES.items()))}</p>'
    about = "AP is the mean over classes and over IoU 0.50 to 0.95; a dash stands where no object of the kind exists."
    return section("COCO's numbers", about, grid([all_numbers, sizes], "wide"))


def label(metric: str) -> str:
    """ "AP small" of "ap_small"."""
    return metric[:2].upper() + metric[2:].replace("_", " ")


def curves_section(runs: Sequence[Evaluated]) -> str:
    """Precision over recall: of one run the curves of a kind together, of several the runs together."""
    charts = []
    for kind in KINDS:
        own = [(run.name, run.analysis.get("curves", {}).get(kind)) for run in runs]
        found = [(name, curves) for name, curves in own if curves]
        if len(runs) == 1:
            charts += [precision_chart(kind, [Line(*curve) for curve in points(curves)]) for _, curves in found]
            continue
        for curve in CURVES:
            lines = [Line(name, dict(points(curves))[curve]) for name, curves in found]
            charts += [precision_chart(f"{kind}, {curve}", lines)] if lines else []
    if not charts:
        return ""
    return section("Precision and recall", "Mean over the classes, all sizes of objects.", grid(charts))


def points(curves: dict[str, list[float]]) -> list[tuple[str, list[tuple[float, float]]]]:
    """The names and points of curves; recall goes from 0 to 1 in equal steps."""
    return [
        (name, [(place / (len(own) - 1), value) for place, value in enumerate(own)]) for name, own in curves.items()
    ]


def precision_chart(title: str, lines: Sequence[Line]) -> str:
    """A chart of precision over recall."""
    return line_chart(f"{title}: precision over recall", lines, "recall", (0, 1))


def errors_section(runs: Sequence[Evaluated]) -> str:
    """TIDE's errors, with what AP50 would gain."""
    rows = []
    largest = max([gain for run in runs for gain in run.analysis["errors"]["gains"].values()] + [0.01])
    for kind, meaning in MEANINGS.items():
        row: list[str] = [Cell(f'<td>{kind}<br><span class="soft">{text(meaning)}</span></td>')]
        for place, run in enumerate(runs):
            gain = run.analysis["errors"]["gains"][kind]
            row += [str(run.analysis["errors"]["counts"][kind]), bar(gain / largest, place), percent(gain)]
        rows.append(row)
    header = [""]
    for run in runs:
        header += [f"{run.name}: number" if len(runs) > 1 else "number", "", "AP50 gained (points)"]
    about = (
        "What keeps AP50 down, by TIDE's kinds (Bolya et al. 2020): how much it would rise if all errors of the kind "
        f"were mended and nothing else. All detections count. Of: {kinds_of(runs)}."
    )
    return section("Errors by kind", about, table(header, rows, "words"))


def kinds_of(runs: Sequence[Evaluated]) -> str:
    """Whether boxes or masks were compared."""
    return ", ".join(dict.fromkeys({"box": "boxes", "mask": "masks"}[run.analysis["kind"]] for run in runs))


def classes_section(runs: Sequence[Evaluated]) -> str:
    """AP class by class, best first by the first run."""
    of = [column for column in columns(runs) if len(runs) == 1 or column.kind == column.run.analysis["kind"]]
    precision = [column.run.scores["classes"][column.kind] for column in of]
    objects = [dict(zip(c.run.analysis["classes"], c.run.analysis["objects"], strict=True)) for c in of]
    first = [column.kind == column.run.analysis["kind"] for column in of].index(True)
    names = list(dict.fromkeys(name for own in precision for name in own))
    names.sort(key=lambda name: precision[first].get(name) or 0.0, reverse=True)
    rows = []
    for name in names:
        row: list[str] = [name, str(next(own[name] for own in objects if name in own))]
        for column, own in zip(of, precision, strict=True):
            row += [bar(own.get(name), column.colour), percent(own.get(name))]
        rows.append(row)
    header = ["class", "objects", *(part for column in of for part in ("", f"{column.name} AP (%)"))]
    return section("AP class by class", "", table(header, rows))


def confusion_section(runs: Sequence[Evaluated]) -> str:
    """Which classes are taken for which."""
    parts = []
    for run in runs:
        counts, classes = run.analysis["confusion"], run.analysis["classes"]
        none = all(found == len(classes) for _, found, _ in counts)
        drawn = confusion_table(counts, classes, nothing=True)
        parts += [f"<h3>{text(run.name)}</h3>" * (len(runs) > 1)]
        parts += ['<p class="soft">No detection has this score.</p>' if none else drawn]
    about = (
        f"Rows are the true classes, columns the found ones, at IoU {MATCH}. Detections count from the score on at "
        f"which F1 is highest ({', '.join(str(run.analysis['threshold']) for run in runs)})."
    )
    return section("Confused classes", about, *parts)


def worst_section(runs: Sequence[Evaluated]) -> str:
    """Pictures of the images that went worst."""
    parts = []
    for run in runs:
        pictures = [
            figure(
                one["picture"],
                f"{text(one['file'])}: {one['right']} right, {one['wrong']} wrong, {one['missed']} missed",
            )
            for one in run.analysis["worst"]
        ]
        parts += [f"<h3>{text(run.name)}</h3>" * (len(runs) > 1), grid(pictures, "pictures")]
    about = "Lowest F1 at IoU 0.5. On the left detections of the score above and more, on the right the truth."
    return section("The worst images", about, *parts)
