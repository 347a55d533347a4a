"""Reading a COCO annotation file, and checking every record before training starts."""

import json
import math
import reprlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple, TypeVar

from botvision.data.masks import usable_segmentation
from botvision.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Category:
    """A kind of object, with COCO's own id (ids may have gaps)."""

    id: int
    name: str


@dataclass(frozen=True)
class ImageRecord:
    """An image of the annotation file; sizes in pixels."""

    id: int
    path: Path
    height: int
    width: int


class Instance(NamedTuple):
    """One annotated object: label 1..K, box x1, y1, x2, y2 in pixels inside its image, mask not yet decoded, if any."""

    label: int
    box: tuple[float, float, float, float]
    segmentation: list | dict | None


class Annotations(NamedTuple):
    """A whole annotation file, checked."""

    categories: list[Category]
    images: list[ImageRecord]
    instances: dict[int, list[Instance]]  # by image id
    dropped: dict[str, int]  # why, and how many annotations
    dropped_ids: frozenset[int]  # of those annotations


def read_annotations(file: Path, image_folder: Path, *, masks: bool = True) -> Annotations:
    """Read and check a COCO `instances` file.

    Boxes are clipped to their image. Annotations that cannot be learnt from (a box of no area, not finite, or
    outside its image; a mask of no area) are left out and counted in `dropped`. Crowd regions, which mark many objects
    at once, are left out too.

    Args:
        file: COCO's JSON.
        image_folder: which the names of the images are relative to.
        masks: whether an object needs a mask; without, 'segmentation' may be missing and is not read.

    Raises:
        UserError: anything else that is wrong; names the file, the record and the field.
    """
    content = _load(file)
    categories = sorted(
        (
            Category(record["id"], _text(record, "name", where))
            for record, where in _records(content, "categories", file)
        ),
        key=lambda category: category.id,
    )
    images = [_image(record, where, image_folder) for record, where in _records(content, "images", file)]
    for name, found in (("categories", categories), ("images", images)):
        if not found:
            raise UserError(f"{file}: '{name}' is empty; give a file with at least one entry there")
    labels = {category.id: label for label, category in enumerate(categories, start=1)}
    images_by_id = {image.id: image for image in images}
    instances: dict[int, list[Instance]] = {image.id: [] for image in images}
    dropped: Counter[str] = Counter()
    dropped_ids: set[int] = set()
    for record, where in _records(content, "annotations", file):
        image = _known(images_by_id, record, "image_id", where)
        label = _known(labels, record, "category_id", where)
        instance = _instance(record, where, image, label, masks)
        if isinstance(instance, str):
            dropped[instance] += 1
            dropped_ids.add(record["id"])
        elif not record.get("iscrowd"):
            instances[image.id].append(instance)
    return Annotations(categories, images, instances, dict(dropped), frozenset(dropped_ids))


def _load(file: Path) -> dict:
    try:
        content = json.loads(file.read_bytes())
    except json.JSONDecodeError as error:
        raise UserError(
            f"{file}: not valid JSON at line {error.lineno} column {error.colno} (character {error.pos}): {error.msg}; "
            "the file may be cut off, copy it again"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not text at byte {error.start}; an annotation file is JSON in UTF-8") from error
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from error
    if not isinstance(content, dict):
        raise UserError(f"{file}: must be a JSON object with 'images', 'annotations' and 'categories'")
    return content


def _records(content: dict, key: str, file: Path) -> Iterator[tuple[dict, str]]:
    """Every record under `key`, its id checked, with its name for messages."""
    records = content.get(key)
    if not isinstance(records, list):
        raise UserError(f"{file}: '{key}' must be a list, as in COCO's instances files; {_found(content, key)}")
    seen = set()
    for position, record in enumerate(records):
        where = f"{file}: {key}[{position}]"
        if not isinstance(record, dict):
            raise UserError(f"{where} must be a JSON object, not {_short(record)}")
        where += f" (id {_whole(record, 'id', where)})"
        if record["id"] in seen:
            raise UserError(f"{where}: a second record has this id; ids must be unique")
        seen.add(record["id"])
        yield record, where


def _image(record: dict, where: str, folder: Path) -> ImageRecord:
    name = _text(record, "file_name", where)
    absolute = PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor
    if absolute or ".." in PureWindowsPath(name).parts:
        raise UserError(f"{where}: 'file_name' {_short(name)} must be a path inside {folder}, without '..'")
    height, width = _whole(record, "height", where), _whole(record, "width", where)
    if height < 1 or width < 1:
        raise UserError(f"{where}: 'height' and 'width' must be at least 1 pixel, not {height} and {width}")
    return ImageRecord(record["id"], folder / name, height, width)


def _instance(record: dict, where: str, image: ImageRecord, label: int, masks: bool) -> Instance | str:
    """The annotation, or the reason why it is left out."""
    box = _clipped_box(record.get("bbox"), where, image)
    if isinstance(box, str):
        return box
    if not masks:
        return Instance(label, box, None)
    if "segmentation" not in record:
        raise UserError(f"{where}: has no 'segmentation'; masks need polygons or run lengths")
    try:
        segmentation = usable_segmentation(record["segmentation"], image.height, image.width)
    except ValueError as error:
        raise UserError(f"{where}: 'segmentation' {error}") from error
    return "mask without area" if segmentation is None else Instance(label, box, segmentation)


def _clipped_box(box: object, where: str, image: ImageRecord) -> tuple[float, float, float, float] | str:
    """`bbox` (x, y, width, height) as x1, y1, x2, y2 inside the image, or the reason why it is left out."""
    if not isinstance(box, list) or len(box) != 4 or not all(type(value) in (int, float) for value in box):
        raise UserError(f"{where}: 'bbox' must be four numbers [x, y, width, height], not {_short(box)}")
    x, y, width, height = box
    if not all(map(math.isfinite, box)):
        return "box not finite"
    if width <= 0 or height <= 0:
        return "box without area"
    if x >= image.width or y >= image.height or x + width <= 0 or y + height <= 0:
        return "box outside its image"
    return max(x, 0.0), max(y, 0.0), min(x + width, image.width), min(y + height, image.height)


def _known(table: dict[int, T], record: dict, field: str, where: str) -> T:
    number = _whole(record, field, where)
    if number not in table:
        raise UserError(f"{where}: '{field}' is {number}, which the file does not define")
    return table[number]


def _whole(record: dict, field: str, where: str) -> int:
    if type(record.get(field)) is not int:
        raise UserError(f"{where}: '{field}' must be a whole number, {_found(record, field)}")
    return record[field]


def _text(record: dict, field: str, where: str) -> str:
    if not isinstance(record.get(field), str) or not record[field]:
        raise UserError(f"{where}: '{field}' must be a text, {_found(record, field)}")
    return record[field]


def _found(record: dict, field: str) -> str:
    return f"found {_short(record[field])}" if field in record else "and is missing"


def _short(value: object) -> str:
    return reprlib.repr(value)
