"""Where the tools that write COCO's format put its files: the annotations and images of a split, and each image."""

import logging
import os
import shlex
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from botvision.configuration import FieldError
from botvision.data.annotations import ImageRecord
from botvision.data.findings import Findings
from botvision.data.formats import FORMATS, FormatSplit, find_format
from botvision.data.formats.bare_yolo import missing_settings
from botvision.data.image_files import check_inside
from botvision.errors import UserError, first_few
from botvision.files import no_folder

logger = logging.getLogger("botvision")

OTHER_NAMES = {"val": ("val", "valid"), "train": ("train", "default")}
"""What Roboflow calls the validation split, and CVAT the only one."""

ROBOFLOW = "_annotations.coco.json"
NAMED = 12
"""Entries of a folder that a message names."""


class CocoSplit(NamedTuple):
    """Where the annotations and the images of a split are."""

    annotation_file: Path
    """Of COCO's format; where the annotations are in another tool's, what messages name."""
    image_folder: Path


def find_split(folder: Path, split: str, *, keypoints: bool = False) -> CocoSplit:
    """Find the annotations and the images of a split; see :func:`find_annotations`."""
    return find_annotations(folder, split, keypoints=keypoints)[0]


def find_annotations(folder: Path, split: str, *, keypoints: bool = False) -> tuple[CocoSplit, dict[str, Any] | None]:
    """Find the annotations and the images of a split.

    Known are COCO's layout (`annotations/instances_{split}2017.json` and `{split}2017/`, both also without the year),
    CVAT's (the same with the images in `images/{split}/`), Roboflow's (`{split}/_annotations.coco.json` beside the
    images), a folder with one JSON file beside its images or beside `images/`, and the formats of other tools; see
    :mod:`~botvision.data.formats`. Where keypoints are wanted, `person_keypoints_` in the place of `instances_` comes
    first. What is not COCO's own layout is said.

    Returns:
        Where they are, and, where they are in another tool's format, what an annotation file would hold; else None.

    Raises:
        UserError: the folder, the annotations or the images are missing, or there are several; names what is there.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: {no_folder(folder)}; it should hold annotations/ and {split}2017/")
    if format_name := other_format(folder):
        return _of_format(folder, format_name, split)
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
            missing_settings(folder)
            or _one_split(folder, split)
            or f"{folder}: holds neither instances_{split}2017.json nor instances_{split}.json in annotations/, nor "
            f"{split}/{ROBOFLOW}, nor {' or '.join(reader.NAME for reader in FORMATS.values())}; "
            f"it holds {_contents(folder)}"
        )
    (result,) = found
    name = result.image_folder.name
    if result != CocoSplit(_annotations(folder, name, keypoints), folder / name):  # not COCO's own
        logger.info("%s: annotations %s, images in %s", split, result.annotation_file, result.image_folder)
    return result, None


def other_format(folder: Path) -> str | None:
    """The format of another tool that a folder has, where it has no annotations in COCO's."""
    return None if is_in_coco(folder) else find_format(folder)


def is_in_coco(folder: Path) -> bool:
    """Whether annotation files lie where COCO and Roboflow have them."""
    return any(folder.glob("annotations/*.json")) or any(folder.glob(f"*/{ROBOFLOW}"))


def _of_format(folder: Path, format_name: str, split: str) -> tuple[CocoSplit, dict[str, Any]]:
    """A split in another tool's format, as COCO has it."""
    splits: dict[str, FormatSplit] = FORMATS[format_name].read(folder)
    found = splits.get(split)
    if found is None:
        raise UserError(
            f"{folder}: {FORMATS[format_name].NAME} annotations with no split {split}, only {', '.join(splits)}; "
            "make one: botvision data convert, then botvision data split"
        )
    logger.info("%s: %s annotations %s, images in %s", split, found.format, found.source, found.image_folder)
    return CocoSplit(found.source, found.image_folder), found.content


def has_annotations(folder: Path) -> bool:
    """Whether a folder holds annotations in one of the layouts of `find_split`, or labels of YOLO without data.yaml."""
    if folder.is_dir() and (other_format(folder) or missing_settings(folder)):
        return True
    patterns = ("annotations/*.json", f"*/{ROBOFLOW}", "*.json")
    return any(any(folder.glob(pattern)) for pattern in patterns) or any(
        _beside_images(folder / name, "*.json") for names in OTHER_NAMES.values() for name in names
    )


def coco_files(folder: Path) -> list[Path]:
    """The annotation files of a folder, in the first of the places of `find_split` that has any, sorted."""
    patterns = ("annotations/instances_*.json", f"*/{ROBOFLOW}", "annotations/*.json", "*.json")
    return next((files for files in (sorted(folder.glob(pattern)) for pattern in patterns) if files), [])


def _one_split(folder: Path, split: str) -> str:
    """The message about a folder that has one split and not this one, which can be made of it; empty for any other."""
    files = coco_files(folder)
    if len(files) > 1:
        files = [file for file in files if "train" in file.relative_to(folder).as_posix()]
    if split not in OTHER_NAMES or len(files) != 1:
        return ""
    try:
        image_folder_of(files[0])
    except UserError:  # the file cannot be split as it is
        return ""
    command = shlex.join(["botvision", "data", "split", str(files[0]), "--out", f"{folder}-split"])
    return (
        f"{folder}: has no {split} split, such as instances_{split}2017.json or instances_{split}.json in "
        f"annotations/; make train and val of what is there: {command}; it holds {_contents(folder)}"
    )


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


def image_folder_of(file: Path) -> Path:
    """The folder of the images of an annotation file, by the layouts of `find_split`.

    Raises:
        UserError: it is not where they have it.
    """
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    if file.parent.name == "annotations":
        name = file.stem.removeprefix("instances_").removeprefix("person_keypoints_")
        return _in_annotations(file.parent.parent, name, file).image_folder
    images = file.parent / "images"
    return images if images.is_dir() else file.parent


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


def find_image_files(
    folder: Path, images: list[ImageRecord], *, follow_links: bool = False, findings: Findings | None = None
) -> list[ImageRecord]:
    """Find the file of every image; one pass over each folder named.

    A name is also tried with slashes for backslashes, with its accents composed and decomposed, in UTF-8 where the
    system's files have another encoding, and without the name of the image folder before it.

    Args:
        folder: the image folder.
        images: with paths inside `folder`.
        follow_links: whether links may lead out of `folder`.
        findings: takes in every image whose file is not found; its record stays as it is.

    Raises:
        FieldError: a link leads out of the folder.
        UserError: files are missing or empty; names the first one and says how many there are.
    """
    files = _Files(folder, follow_links)
    found = []
    unusable: dict[str, list[Path]] = {"missing": [], "empty": []}
    for image in images:
        try:
            entry = files.find(image.path.relative_to(folder).as_posix())
        except FieldError as error:
            if findings is None:
                raise
            findings.add("refused", "link out of the image folder", "", str(error))
            found.append(image)
            continue
        if entry is None:
            unusable["missing"].append(image.path)
        elif entry.stat().st_size == 0:
            unusable["empty"].append(image.path)
        found.append(replace(image, path=Path(entry.path)) if entry else image)
    for what, paths in unusable.items():
        if paths and findings is None:
            raise UserError(f"{min(paths)}: image file is {what} ({len(paths)} such in all); restore or download it")
        for path in paths if findings else ():
            findings.add("refused", f"image file is {what}", path, "restore or download it")  # type: ignore[union-attr]
    return found


class _Files:
    """The files of an image folder, each folder in it listed once."""

    def __init__(self, folder: Path, follow_links: bool) -> None:
        self.folder, self.follow_links = folder, follow_links
        self.root = Path(os.path.realpath(folder))
        self._entries: dict[str, dict[str, os.DirEntry[str]]] = {}

    def find(self, name: str) -> os.DirEntry[str] | None:
        """The file that a name means; raises a FieldError where a link leads out of the folder."""
        for spelling in _spellings(name, self.folder.name):
            inside, _, own = spelling.rpartition("/")
            entry = self._list(inside).get(own)
            if entry is not None:
                if entry.is_symlink() and not self.follow_links:
                    check_inside(Path(entry.path), self.root)
                return entry
        return None

    def _list(self, inside: str) -> dict[str, os.DirEntry[str]]:
        if inside not in self._entries:
            try:
                with os.scandir(self.folder / inside) as scanned:
                    files = {entry.name: entry for entry in scanned if entry.is_file()}
            except OSError:  # no such folder
                files = {}
            if files and not self.follow_links:
                check_inside(self.folder / inside, self.root)
            self._entries[inside] = files
        return self._entries[inside]


def _spellings(name: str, folder: str) -> Iterator[str]:
    """The names by which a file may be there."""
    for slashed in (name, name.replace("\\", "/")):
        for form in (slashed, slashed.removeprefix(f"{folder}/")):
            yield form
            for accents in ("NFC", "NFD"):
                yield os.fsdecode(unicodedata.normalize(accents, form).encode("utf-8", "surrogateescape"))
