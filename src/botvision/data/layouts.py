"""Where the tools that write COCO's format put its files: the annotations and images of a split, and each image."""

import logging
import os
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

from botvision.data.annotations import ImageRecord
from botvision.data.image_files import check_inside
from botvision.errors import UserError, first_few

logger = logging.getLogger("botvision")

OTHER_NAMES = {"val": ("val", "valid"), "train": ("train", "default")}
"""What Roboflow calls the validation split, and CVAT the only one."""

ROBOFLOW = "_annotations.coco.json"
NAMED = 12
"""Entries of a folder that a message names."""


class CocoSplit(NamedTuple):
    """Where the annotations and the images of a split are."""

    annotation_file: Path
    image_folder: Path


def find_split(folder: Path, split: str, *, keypoints: bool = False) -> CocoSplit:
    """Find the annotations and the images of a split.

    Known are COCO's layout (`annotations/instances_{split}2017.json` and `{split}2017/`, both also without the year),
    CVAT's (the same with the images in `images/{split}/`), Roboflow's (`{split}/_annotations.coco.json` beside the
    images) and a folder with one JSON file beside its images or beside `images/`. Where keypoints are wanted,
    `person_keypoints_` in the place of `instances_` comes first.

    Raises:
        UserError: the folder, the annotations or the images are missing, or there are several; names what is there.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the one that holds annotations/ and {split}2017/")
    for name in OTHER_NAMES.get(split, (split,)):
        years = [f"{name}2017", name]
        own = {year: _annotations(folder, year, keypoints) for year in years}
        found = [_in_annotations(folder, year, file) for year, file in own.items() if file.is_file()]
        found += _beside_images(folder / name, ROBOFLOW) or ([] if found else _beside_images(folder / name, "*.json"))
        if len(found) > 1:
            files = " and ".join(str(place.annotation_file) for place in found)
            raise UserError(f"{folder}: has {files} for {split}; keep one of them")
        if found:
            break
    else:
        found = [] if (folder / "annotations").is_dir() else _beside_images(folder, "*.json")
    if not found:
        raise UserError(
            f"{folder}: holds neither instances_{split}2017.json nor instances_{split}.json in annotations/, nor "
            f"{split}/{ROBOFLOW}; it holds {_contents(folder)}"
        )
    (result,) = found
    name = result.image_folder.name
    if result != CocoSplit(_annotations(folder, name, keypoints), folder / name):  # not COCO's own
        logger.info("%s: annotations %s, images in %s", split, result.annotation_file, result.image_folder)
    return result


def _annotations(folder: Path, name: str, keypoints: bool) -> Path:
    instances, people = (folder / "annotations" / f"{kind}_{name}.json" for kind in ("instances", "person_keypoints"))
    return people if keypoints and people.is_file() else instances


def _in_annotations(folder: Path, name: str, file: Path) -> CocoSplit:
    """COCO's and CVAT's layout."""
    places = [folder / name, folder / "images" / name]
    found = [place for place in places if place.is_dir()] or [folder / "images"]
    if len(found) > 1:
        raise UserError(f"{found[0]} and {found[1]}: both may hold the images of {file}; keep one of them")
    if not found[0].is_dir():
        raise UserError(
            f"{folder / name}: no such folder; the images of {file} belong there; {folder} holds {_contents(folder)}"
        )
    return CocoSplit(file, found[0])


def _beside_images(folder: Path, pattern: str) -> list[CocoSplit]:
    """A folder with one JSON file, as Roboflow and Label Studio write them."""
    files = [file for file in folder.glob(pattern) if file.is_file() and not file.name.startswith(".")]
    images = folder / "images"
    return [CocoSplit(files[0], images if images.is_dir() else folder)] if len(files) == 1 else []


def _contents(folder: Path) -> str:
    """The folders and JSON files in a folder and one level below, for messages."""
    entries = [*folder.glob("*"), *folder.glob("*/*")]
    names = sorted(
        f"{entry.relative_to(folder)}{'/' if entry.is_dir() else ''}"
        for entry in entries
        if not entry.name.startswith(".") and (entry.is_dir() or entry.suffix == ".json")
    )
    return first_few(names, NAMED) or "no folder and no JSON file"


def find_image_files(folder: Path, images: list[ImageRecord], *, follow_links: bool = False) -> list[ImageRecord]:
    """Find the file of every image; one pass over each folder named.

    A name is also tried with slashes for backslashes, with its accents composed and decomposed, in UTF-8 where the
    system's files have another encoding, and without the name of the image folder before it.

    Args:
        folder: the image folder.
        images: with paths inside `folder`.
        follow_links: whether links may lead out of `folder`.

    Raises:
        FieldError: a link leads out of the folder.
        UserError: files are missing or empty; names the first one and says how many there are.
    """
    root = Path(os.path.realpath(folder))
    found: list[ImageRecord] = []
    missing: list[Path] = []
    empty: list[Path] = []

    @cache
    def entries(inside: str) -> dict[str, os.DirEntry]:
        try:
            with os.scandir(folder / inside) as scanned:
                files = {entry.name: entry for entry in scanned if entry.is_file()}
        except OSError:  # no such folder
            return {}
        if not follow_links:
            check_inside(folder / inside, root)
        return files

    for image in images:
        places = (name.rpartition("/") for name in _spellings(image.path.relative_to(folder).as_posix(), folder.name))
        entry = next((entries(inside)[name] for inside, _, name in places if name in entries(inside)), None)
        if entry is None:
            missing.append(image.path)
            continue
        if entry.is_symlink() and not follow_links:
            check_inside(Path(entry.path), root)
        if entry.stat().st_size == 0:
            empty.append(image.path)
        found.append(replace(image, path=Path(entry.path)))
    for what, paths in (("missing", missing), ("empty", empty)):
        if paths:
            raise UserError(f"{min(paths)}: image file is {what} ({len(paths)} such in all); restore or download it")
    return found


def _spellings(name: str, folder: str) -> Iterator[str]:
    """The names by which a file may be there."""
    for slashed in (name, name.replace("\\", "/")):
        for form in (slashed, slashed.removeprefix(f"{folder}/")):
            yield form
            for accents in ("NFC", "NFD"):
                yield os.fsdecode(unicodedata.normalize(accents, form).encode("utf-8", "surrogateescape"))
