"""The format of the VGG Image Annotator (VIA 1 and 2): one JSON file with the regions of all images.

Rectangles, polygons, circles and ellipses are objects; points and lines are left out and counted in a warning. The
class is the attribute of a region of a usual name, or the only one it has; without attributes it is "object".
"""

import logging
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from botvision.data.formats.building import (
    FormatSplit,
    LabelledImage,
    Shape,
    box_of,
    each_read,
    ellipse,
    in_coco_form,
    inside,
    number,
    read_bytes,
)
from botvision.data.formats.places import split_folders
from botvision.data.images import upright_size
from botvision.data.json_records import load_json, what_is_there
from botvision.errors import UserError, short

logger = logging.getLogger("botvision")

NAME = "VIA"
NEEDS = "one JSON file with 'regions' and 'shape_attributes'"
MARKS = re.compile(rb'"(_via_img_metadata|shape_attributes|_via_settings)"\s*:')
CLASS_ATTRIBUTES = ("class", "label", "name", "type", "category", "object")
NO_OBJECTS = ("point", "polyline")


def is_here(folder: Path) -> bool:
    """Whether the only JSON file of the folder, or of one of its splits, has regions."""
    return any(file_in(place) for place in split_folders(folder).values())


def file_in(folder: Path) -> Path | None:
    """The only JSON file in a folder, where it has this format."""
    files = list(folder.glob("*.json"))
    return files[0] if len(files) == 1 and MARKS.search(read_bytes(files[0])) else None


def read(folder: Path) -> dict[str, FormatSplit]:
    """Every split of a data set.

    Raises:
        UserError: names the file, the region and the field that is wrong.
    """
    left_out: Counter[str] = Counter()
    files = {split: file for split, place in split_folders(folder).items() if (file := file_in(place))}
    found = in_coco_form(NAME, folder, {split: (file, of_split(file, left_out)) for split, file in files.items()})
    if left_out:
        counts = ", ".join(f"{count} {kind}" for kind, count in left_out.items())
        logger.warning("%s: left out shapes that are no objects: %s", folder, counts)
    return found


def of_split(file: Path, left_out: Counter[str]) -> Iterator[LabelledImage | UserError]:
    """The images of an annotation file as `each_read` gives them; those of a project that have no objects too."""
    content = load_json(file)
    entries = content.get("_via_img_metadata", content)
    if not isinstance(entries, dict):
        raise UserError(f"{file}: '_via_img_metadata' should be an object, got {short(entries)}")

    def read_one(item: tuple[str, Any]) -> LabelledImage:
        key, entry = item
        try:
            if not isinstance(entry, dict):
                raise ValueError(f"should be an object, got {short(entry)}")
            return image_of(file, entry, left_out)
        except ValueError as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{file}: {short(key)}: {error}") from error

    return each_read(entries.items(), read_one)


def image_of(file: Path, entry: dict[str, Any], left_out: Counter[str]) -> LabelledImage:
    """An image with its objects; raises a ValueError where something is wrong."""
    given = [inside(place, entry.get("filename"), "filename") for place in (file.parent, file.parent / "images")]
    path = next((path for path in given if path.is_file()), given[0])
    regions = entry.get("regions") or []
    regions = list(regions.values()) if isinstance(regions, dict) else regions  # VIA 1 numbers them
    if not isinstance(regions, list):
        raise ValueError(f"'regions' should be a list, {what_is_there(entry, 'regions')}")
    shapes = []
    for place, region in enumerate(regions):
        try:
            about = region.get("shape_attributes") if isinstance(region, dict) else None
            if not isinstance(about, dict):
                raise ValueError("'shape_attributes' is missing")
            if about.get("name") in NO_OBJECTS:
                left_out[about["name"]] += 1
            else:
                shapes.append(shape_of(about, class_of(region.get("region_attributes"))))
        except ValueError as error:
            raise ValueError(f"regions[{place}]: {error}") from error
    return LabelledImage(path, *upright_size(path), shapes)


def class_of(attributes: object) -> str:
    """The name of the class of a region; raises a ValueError where it is not clear."""
    if not attributes:
        return "object"
    if not isinstance(attributes, dict):
        raise ValueError(f"'region_attributes' should be an object, got {short(attributes)}")
    usual = [name for name in attributes if name.lower() in CLASS_ATTRIBUTES]
    named = usual or list(attributes)
    if len(named) > 1:
        raise ValueError(f"'region_attributes' should have one of {', '.join(CLASS_ATTRIBUTES)}, got {short(named)}")
    value = attributes[named[0]]
    if isinstance(value, dict):  # of a checkbox
        value = next((name for name, chosen in value.items() if chosen), None)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"'{named[0]}' should be the name of a class, got {short(value)}")
    return value.strip()


def shape_of(about: dict[str, Any], name: str) -> Shape:
    """An object; raises a ValueError where it is wrong."""
    kind = about.get("name")
    if kind == "rect":
        x, y, width, height = (number(about.get(field), field) for field in ("x", "y", "width", "height"))
        return Shape(name, box_of(x, y, x + width, y + height))
    if kind == "polygon":
        x_values, y_values = about.get("all_points_x"), about.get("all_points_y")
        if not isinstance(x_values, list) or not isinstance(y_values, list) or len(x_values) != len(y_values):
            raise ValueError("'all_points_x' and 'all_points_y' should be lists of one length")
        if len(x_values) < 3:
            raise ValueError(f"'all_points_x' of a polygon should have three or more values, got {len(x_values)}")
        points = zip(x_values, y_values, strict=True)
        return Shape(name, None, [[number(value, "all_points") for point in points for value in point]])
    if kind in ("circle", "ellipse"):
        radii = ("r", "r") if kind == "circle" else ("rx", "ry")
        x, y, across, down = (number(about.get(field), field) for field in ("cx", "cy", *radii))
        turned = number(about.get("theta", 0), "theta")
        return Shape(name, None, [ellipse(x, y, across, down, turned)])
    raise ValueError(f"shape {short(kind)} is not known")
