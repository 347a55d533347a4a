"""LabelMe's format: a JSON file for each image, whose shapes are polygons, rectangles, circles or masks.

Turned rectangles are polygons of four points; a rectangle of four points, as X-AnyLabeling writes it, is the box around
them. Images without a JSON file are left out, as LabelMe writes none for an image that nobody has looked at. The JSON
files may lie in folders below, beside their images or in folders of their own.

Shapes of one label and one "group_id" are one object, as LabelMe's own export to COCO has it. Points and lines are no
objects: they are left out and counted in a warning. The images may lie in train/ and val/, or in one folder.
"""

import base64
import logging
import math
import os
import re
from collections import Counter
from collections.abc import Hashable, Iterator
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from PIL import Image

from botvision.data.formats.building import (
    FormatSplit,
    LabelledImage,
    Shape,
    each_read,
    ellipse,
    flat,
    has_file_with,
    in_coco_form,
    inside,
    joined,
    number,
    runs_of,
)
from botvision.data.formats.places import ImagesByStem, split_folders, warn_of_unlabelled
from botvision.data.images import upright_size
from botvision.data.json_records import load_json, what_is_there
from botvision.errors import UserError, short

logger = logging.getLogger("botvision")

NAME = "LabelMe"
NEEDS = "JSON files with 'shapes'"
SHAPES = re.compile(rb'"shapes"\s*:')
"""Anywhere in a file: an image in it may come first."""
POINTS = {"rectangle": (2, 4), "circle": (2,), "mask": (2,), "oriented_rectangle": (4,), "rotation": (4,)}
"""How many points a shape has; the last is X-AnyLabeling's name of a turned rectangle."""
NO_OBJECTS = ("point", "points", "line", "linestrip")


def is_here(folder: Path) -> bool:
    """Whether a JSON file of the folder, or of its splits, or in a folder below these, has shapes."""
    return any(next(json_folders(place), None) for place in split_folders(folder).values())


def json_folders(place: Path) -> Iterator[Path]:
    """The folders of LabelMe's JSON files: a place, and those below it, sorted; hidden ones are left out.

    COCO's annotations/ are not looked into, and nothing below a place that has other JSON files alone: both may be
    huge, and of another tool.
    """
    for folder in visible_folders(place):
        if folder != place and folder.name == "annotations":
            continue
        if has_file_with(folder, "*.json", SHAPES):
            yield folder
        elif folder == place and any(folder.glob("*.json")):
            return


def visible_folders(place: Path) -> Iterator[Path]:
    """A folder and those below it, sorted, without hidden ones."""
    for name, folders, _ in os.walk(place):
        folders[:] = sorted(one for one in folders if one[0] != ".")
        yield Path(name)


def read(folder: Path) -> dict[str, FormatSplit]:
    """Every split of a data set.

    Raises:
        UserError: names the file, the shape and the field that is wrong.
    """
    left_out: Counter[str] = Counter()
    images = ImagesByStem()
    read_one = partial(labelled, root=folder, images=images, left_out=left_out)
    splits = {
        split: (place, list(each_read(json_files(place), read_one))) for split, place in split_folders(folder).items()
    }
    found = in_coco_form(NAME, folder, splits)
    paths = {image.path for _, read in splits.values() for image in read if isinstance(image, LabelledImage)}
    looked_at = {path.parent for path in paths}.union(*(visible_folders(place) for place, _ in splits.values()))
    warn_of_unlabelled(folder, looked_at, paths, images)
    if left_out:
        counts = ", ".join(f"{count} {kind}" for kind, count in left_out.items())
        logger.warning("%s: left out shapes that are no objects: %s", folder, counts)
    return found


def json_files(place: Path) -> list[Path]:
    """The annotation files of a split; a file of something else beside them is refused when it is read."""
    folders = dict.fromkeys([place, *json_folders(place)])
    return [file for folder in folders for file in sorted(folder.glob("*.json"))]


def labelled(file: Path, root: Path, images: ImagesByStem, left_out: Counter[str]) -> LabelledImage:
    """The image of an annotation file, with its objects."""
    content = load_json(file)
    try:
        shapes = content.get("shapes")
        if not isinstance(shapes, list):
            raise ValueError(f"'shapes' should be a list, {what_is_there(content, 'shapes')}")
        path = image_of(file, content.get("imagePath"), root, images)
        if content.get("imageData") and not path.is_file():
            raise ValueError(
                f"'imageData' holds the picture in base64, and its file {path} is missing; write the picture into a "
                "file of this name (docs/your-data.md does so for a whole folder)"
            )
        height, width = content.get("imageHeight"), content.get("imageWidth")
        size = (height, width) if is_side(height) and is_side(width) else upright_size(path)
        return LabelledImage(path, *size, grouped(shapes, size, left_out))
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{file}: {error}") from error


def image_of(file: Path, name: object, root: Path, images: ImagesByStem) -> Path:
    """The image: the one of 'imagePath', or where that is not here, one with the name of the annotation file.

    Raises:
        ValueError: the path leads out of the root, which is the data set's folder.
    """
    beside = images.of(file.parent, file.stem)
    try:
        given = inside(file.parent, name, "imagePath", root)
    except ValueError:
        if beside:
            return beside[0]
        raise
    return given if given.is_file() or not beside else beside[0]


def is_side(value: object) -> TypeGuard[int]:
    """Whether this is a number of pixels."""
    return isinstance(value, int) and value > 0


def grouped(shapes: list[Any], size: tuple[int, int], left_out: Counter[str]) -> list[Shape]:
    """The objects of an image; raises a ValueError where a shape is wrong."""
    groups: dict[Hashable, list[Shape]] = {}
    for place, record in enumerate(shapes):
        try:
            if not isinstance(record, dict) or not isinstance(record.get("label"), str) or not record["label"]:
                raise ValueError("'label' should be a name")
            kind = str(record.get("shape_type") or "polygon")
            if kind in NO_OBJECTS:
                left_out[kind] += 1
                continue
            group = record.get("group_id")
            key = (record["label"], str(group)) if group is not None else place
            groups.setdefault(key, []).append(shape_of(record, kind, size))
        except ValueError as error:
            raise ValueError(f"shapes[{place}]: {error}") from error
    return [joined(own, size) for own in groups.values()]


def shape_of(record: dict[str, Any], kind: str, size: tuple[int, int]) -> Shape:
    """A shape; raises a ValueError where it is wrong."""
    name, points = record["label"], points_of(record)
    if kind == "polygon":
        if len(points) < 3:
            raise ValueError(f"'points' of a polygon should be three or more, got {len(points)}")
        return Shape(name, None, [flat(points)])
    if kind not in POINTS:
        raise ValueError(f"'shape_type' {short(kind)} is not known")
    if len(points) not in POINTS[kind]:
        counts = " or ".join(map(str, POINTS[kind]))
        raise ValueError(f"'points' of a {kind} should be {counts}, got {len(points)}")
    if kind == "rectangle":
        x_values, y_values = zip(*points, strict=True)
        return Shape(name, (min(x_values), min(y_values), max(x_values), max(y_values)))
    if kind == "mask":
        return Shape(name, None, mask_of(record, points[0], size))
    if kind == "circle":
        radius = math.dist(*points)
        return Shape(name, None, [ellipse(*points[0], radius, radius)])
    return Shape(name, None, [flat(points)])


def points_of(record: dict[str, Any]) -> list[tuple[float, float]]:
    """The points of a shape, in pixels."""
    points = record.get("points")
    if not isinstance(points, list) or not all(isinstance(point, list) and len(point) == 2 for point in points):
        raise ValueError(f"'points' should be a list of [x, y], {what_is_there(record, 'points')}")
    return [(number(x, "points"), number(y, "points")) for x, y in points]


def mask_of(record: dict[str, Any], corner: tuple[float, float], size: tuple[int, int]) -> dict[str, Any]:
    """A mask that is a PNG image in base64, whose first pixel lies at the shape's first point."""
    left, top = (int(value) for value in corner)
    try:
        with Image.open(BytesIO(base64.b64decode(record["mask"], validate=True)), formats=("PNG",)) as image:
            if left < 0 or top < 0 or top + image.height > size[0] or left + image.width > size[1]:
                raise ValueError("it reaches out of the image")
            drawn = np.asarray(image.convert("L")) > 0
    except (KeyError, TypeError, ValueError, OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"'mask' should be a PNG image in base64 inside the image ({error})") from error
    whole = np.zeros(size, dtype=np.uint8, order="F")
    whole[top : top + drawn.shape[0], left : left + drawn.shape[1]] = drawn
    return runs_of(whole)
