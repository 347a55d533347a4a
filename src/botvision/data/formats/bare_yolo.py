"""YOLO's labels without data.yaml: the names of the classes are missing, so that they can be told of, but not read."""

import re
from itertools import islice
from pathlib import Path

from botvision.data.formats.yolo import is_here, label_files, labels_folder, text_of, usual_folders
from botvision.errors import UserError

LOOKED_AT = 20
"""Label files of a folder; those of images without objects are empty."""
LINE = re.compile(r"\s*\d+(\.0*)?(\s+-?\d*\.?\d+(e[-+]?\d+)?){4,}\s*(\n|$)")
"""A class and four or more numbers."""


def labelled_folders(folder: Path) -> dict[str, Path]:
    """The folders of images by split that have labels of YOLO in their usual place."""
    places = {split: path for split, path in usual_folders(folder).items() if has_labels(labels_folder(path, folder))}
    images = folder / "images"
    return places or ({"train": images} if images.is_dir() and has_labels(folder / "labels") else {})


def has_labels(labels: Path) -> bool:
    """Whether one of the first text files in a folder starts as YOLO's do."""
    return labels.is_dir() and any(map(is_label_file, islice(label_files(labels), LOOKED_AT)))


def is_label_file(file: Path) -> bool:
    """Whether the first line of a text file is an object."""
    try:
        return LINE.match(text_of(file)) is not None
    except UserError:  # no text
        return False


def missing_settings(folder: Path) -> str | None:
    """What to say of a folder that has labels of YOLO and nothing that names their classes; None of another one."""
    places = {} if is_here(folder) else labelled_folders(folder)
    if not places:
        return None
    lines = [f"{split}: {path.relative_to(folder).as_posix()}" for split, path in places.items()]
    lines.append("names: [name of class 0, name of class 1]")
    rest = "" if "val" in places else "; then botvision data convert and botvision data split make train and val of it"
    return (
        f"{folder}: looks like labels of YOLO without data.yaml, which names the classes; write "
        f"{folder / 'data.yaml'} with the lines {', '.join(map(repr, lines))}, and all names there{rest}"
    )
