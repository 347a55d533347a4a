"""What `botvision data check` found in a data set: as tables, as JSON, and as a page."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from rich import box
from rich.table import Column, Table

from botvision.configuration import FieldError
from botvision.data.findings import EFFECTS, Findings
from botvision.data.image_survey import ImageSurvey
from botvision.data.pixel_statistics import common_channels, write_statistics
from botvision.errors import UserError, short
from botvision.files import write_text
from botvision.pages import Cell, bar, figure, grid, jpeg, section, table, text, write_page
from botvision.pictures import save_picture
from botvision.tasks.options import CheckOptions
from botvision.tasks.page_parts import numbers

SHOWN, SHOWN_REFUSED = 3, 30
"""Findings of a kind in a terminal; the others are in JSON and on the page."""
LONGEST_PROBLEM = 300
"""Characters of a finding in a terminal."""
PICTURE_SIDE = 900
"""Pixels of a picture's longer side on the page."""


class Picture(NamedTuple):
    """A picture of a sample."""

    split: str
    file: str
    about: str
    image: Image.Image


class Checked(NamedTuple):
    """What was found in a data set."""

    task: str
    data: str
    splits: list[dict[str, Any]]
    """Of each split "split", "source", and what it holds by its name: "images", "objects" and so on."""
    classes: list[dict[str, Any]]
    """Of each class "class", and for each split the counts of its objects: "all", and by size where they have one."""
    pixels: list[dict[str, Any]]
    """Of each number of channels its "mean" and "std", see :class:`~botvision.data.image_survey.ImageSurvey`."""
    trains: list[str]
    """What can be trained on it."""
    findings: Findings
    pictures: list[Picture]

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        names = ("task", "data", "splits", "classes", "pixels", "trains")
        content = {name: getattr(self, name) for name in names}
        return {**content, "refused": self.findings.refused, "findings": self.findings.plain()}

    @property
    def verdict(self) -> str:
        """In one line, whether training takes the data."""
        if not self.findings.refused:
            return f"{self.data}: training takes it ({', '.join(self.trains)})"
        return f"{self.data}: training refuses it; findings that say so: {self.findings.refused}"


def check_tables(checked: Checked) -> Iterator[Table | str]:
    """For a terminal."""
    facts = list(dict.fromkeys(name for split in checked.splits for name in split if name not in ("split", "source")))
    about = Table(
        Column("split"), Column("source", overflow="fold"), *(Column(fact, justify="right") for fact in facts)
    )
    for split in checked.splits:
        about.add_row(split["split"], split["source"], *(str(split.get(fact, "-")) for fact in facts))
    yield about
    columns = count_columns(checked)
    classes = Table(
        Column("class", overflow="fold", min_width=8),
        *(Column(name, justify="right") for name, *_ in columns),
        box=box.SIMPLE_HEAD,  # which leaves room for all columns of two splits on a terminal 80 wide
        padding=0,
    )
    for row in checked.classes:
        classes.add_row(row["class"], *(str(count_of(row, *place)) for _, *place in columns))
    yield classes
    for channels in checked.pixels:
        mean, std = (" ".join(f"{value:.4g}" for value in channels[name]) for name in ("mean", "std"))
        yield f"pixels: {channels['channels']} channels, mean {mean}, standard deviation {std}"
    for kind in checked.findings.plain():
        yield f"{kind['effect']}: {kind['count']} x {kind['kind']}"
        most = SHOWN_REFUSED if kind["effect"] == "refused" else SHOWN
        yield from (f"    {str_of(one)[:LONGEST_PROBLEM]}" for one in kind["first"][:most])
        if kind["count"] > most:
            yield f"    and {kind['count'] - most} more; see --out"
    yield checked.verdict


def str_of(finding: dict[str, str]) -> str:
    """A finding in one line."""
    return ": ".join(part for part in (finding["file"], finding["record"], finding["problem"]) if part)


def count_columns(checked: Checked) -> list[tuple[str, str, str]]:
    """The columns of the table of classes: (title, split, size)."""
    found = []
    for split in (one["split"] for one in checked.splits):
        sizes = dict.fromkeys(size for row in checked.classes for size in row["counts"].get(split, {}))
        found += [(split if size == "all" else f"{split} {size}", split, size) for size in sizes]
    return found


def count_of(row: dict[str, Any], split: str, size: str) -> int | str:
    """How many objects of a class and size a split has; a dash where it does not know the class."""
    return row["counts"].get(split, {}).get(size, "-")


def write_check(folder: Path, checked: Checked) -> None:
    """Write ``check.json``, ``check.html`` and the pictures."""
    write_text(folder / "check.json", json.dumps(checked.plain(), indent=2, allow_nan=False) + "\n")
    write_page(folder / "check.html", f"Check of {checked.data}", page_sections(checked))
    for number, picture in enumerate(checked.pictures, start=1):
        save_picture(picture.image, folder / "pictures" / f"{picture.split}-{number}.png")


def page_sections(checked: Checked) -> Iterator[str]:
    """The page, as HTML."""
    tiles = [(f"{split['split']} images", str(split.get("images", "-"))) for split in checked.splits]
    tiles += [("classes", str(len(checked.classes))), ("findings to refuse it", str(checked.findings.refused))]
    yield f'<p class="soft">{text(checked.verdict)}</p>' + numbers(tiles)
    yield findings_section(checked)
    facts = list(dict.fromkeys(name for split in checked.splits for name in split))
    rows = [[str(split.get(fact, "-")) for fact in facts] for split in checked.splits]
    yield section("Splits", "", table(facts, rows))
    yield classes_section(checked)
    if checked.pixels:
        pixel_rows = [[str(one[name]) for name in ("channels", "pixels", "mean", "std")] for one in checked.pixels]
        yield section("Pixels", "Of all images.", table(["channels", "pixels", "mean", "deviation"], pixel_rows))
    drawn = [
        figure(jpeg(one.image, PICTURE_SIDE), f"{text(one.split)}: {text(one.file)}<br>{text(one.about)}")
        for one in checked.pictures
    ]
    if drawn:
        yield section("A sample with its annotations", "", grid(drawn, "pictures"))


def findings_section(checked: Checked) -> str:
    """What follows in training, kind by kind."""
    parts = []
    kinds = checked.findings.plain()
    for effect in EFFECTS:
        rows = [[kind["kind"], str(kind["count"]), where(kind)] for kind in kinds if kind["effect"] == effect]
        if rows:
            parts += [f"<h3>{effect}</h3>", table(["what", "number", "where, the first ones"], rows, "words")]
    about = "Refused: training does not start, or stops there. Left out and changed: it goes on so. Noted: look at it."
    return section("What was found", about, *(parts or ["<p>Nothing is wrong, left out or changed.</p>"]))


def where(kind: dict[str, Any]) -> Cell:
    """The first findings of a kind, in one cell, each on a line."""
    lines = "<br>".join(text(str_of(one)[:LONGEST_PROBLEM]) for one in kind["first"])
    return Cell(f'<td class="text">{lines}</td>')


def classes_section(checked: Checked) -> str:
    """Counts by class, with bars for the first split."""
    columns = count_columns(checked)
    first = next(((split, size) for _, split, size in columns), ("", ""))
    largest = max([count for row in checked.classes if isinstance(count := count_of(row, *first), int)] + [1])
    rows = []
    for row in checked.classes:
        count = count_of(row, *first)
        share = count / largest if isinstance(count, int) else None
        rows.append([row["class"], bar(share), *(str(count_of(row, *place)) for _, *place in columns)])
    return section("Classes", "", table(["class", "", *(name for name, *_ in columns)], rows))


def note_missing_classes(findings: Findings, classes: Iterable[dict[str, Any]], splits: Iterable[str]) -> None:
    """Note the classes of which a split has nothing."""
    for split in splits:
        for row in classes:
            if not row["counts"].get(split, {}).get("all"):
                findings.add(
                    "noted", f"class missing from {split}", "", f"{split} has nothing of {short(row['class'])}"
                )


def channels_to_check(files: Sequence[str | Path], options: CheckOptions, findings: Findings) -> int | None:
    """The channels of images that are read as stored, None of those that are read as RGB; refused where they differ."""
    wanted = options.in_channels
    try:
        found = common_channels(map(Path, files), wanted)
        return wanted or found
    except UserError as error:
        findings.refuse(error, "images of other channels")
        return wanted or common_channels([Path(files[0])])


def keep_statistics(
    data: str, splits: Sequence[str], survey: ImageSurvey, channels: int | None, findings: Findings
) -> None:
    """Keep the statistics of images as stored for training: of the first split, if nothing is refused."""
    if channels is None or not splits or findings.refused:
        return
    moments = survey.moments.get((splits[0], channels))
    if moments is None:  # not one image of it could be read
        return
    try:
        file = write_statistics(Path(data), splits[0], moments)
    except FieldError as error:
        findings.add("refused", "channel with one value", "", f"{splits[0]}: {error}; leave the channel out")
        return
    if file:
        problem = f"keeps the mean and deviation of {splits[0]} for training"
        findings.add("noted", "images read as stored", file, problem)
