"""CVAT's own format, "CVAT for images 1.1": one XML file with all images, which lie in images/ or beside it.

Boxes, also turned ones, polygons, ellipses and masks are objects; those of one label and one "group_id" are one object,
as in CVAT's export to COCO. Tags, points, lines and skeletons are left out and counted in a warning.
"""

import logging
import re
from collections import Counter
from collections.abc import Hashable
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from botvision.data.formats.building import (
    FormatSplit,
    LabelledImage,
    Shape,
    box_of,
    each_read,
    ellipse,
    has_file_with,
    in_coco_form,
    inside,
    joined,
    number,
    read_xml,
    runs_of,
    turned_box,
)
from botvision.data.formats.places import SPLIT_NAMES
from botvision.errors import UserError, short

logger = logging.getLogger("botvision")

NAME = "CVAT"
NEEDS = "annotations.xml with <annotations>"
FILE = "annotations.xml"
ROOT = re.compile(rb"<annotations[\s>]")
OBJECTS = ("box", "polygon", "ellipse", "mask")


def is_here(folder: Path) -> bool:
    """Whether annotations.xml is there, with this format's root."""
    return has_file_with(folder, FILE, ROOT)


def read(folder: Path) -> dict[str, FormatSplit]:
    """Every subset as a split; images of no subset, or of CVAT's "default", are train.

    Raises:
        UserError: names the file, the image and the field that is wrong.
    """
    file = folder / FILE
    left_out: Counter[str] = Counter()
    records: dict[str, list[tuple[int, Element]]] = {}
    for numbered in enumerate(read_xml(file).iter("image")):
        subset = (numbered[1].get("subset") or "default").lower()
        records.setdefault("train" if subset == "default" else SPLIT_NAMES.get(subset, subset), []).append(numbered)
    if not records:
        raise UserError(f"{file}: has no <image>; export the task as 'CVAT for images', not as video tracks")

    def read_one(numbered: tuple[int, Element]) -> LabelledImage:
        place, record = numbered
        try:
            return labelled(record, folder, left_out)
        except ValueError as error:
            raise UserError(f"{file}: image[{place}] ({short(record.get('name'))}): {error}") from error

    found = {split: list(each_read(own, read_one)) for split, own in records.items()}
    if left_out:
        counts = ", ".join(f"{count} {kind}" for kind, count in left_out.items())
        logger.warning("%s: left out what is no object: %s", file, counts)
    named = {split: file if len(found) == 1 else Path(f"{file}:{split}") for split in found}
    return in_coco_form(NAME, folder, {split: (named[split], images) for split, images in found.items()})


def labelled(record: Element, folder: Path, left_out: Counter[str]) -> LabelledImage:
    """An image with its objects; raises a ValueError where something is wrong."""
    height, width = (int(number(record.get(side), side)) for side in ("height", "width"))
    if height < 1 or width < 1:
        raise ValueError(f"'height' and 'width' should be at least 1, got {height} and {width}")
    groups: dict[Hashable, list[Shape]] = {}
    for place, found in enumerate(record):
        if found.tag not in OBJECTS:
            left_out[found.tag] += 1
            continue
        try:
            group = found.get("group_id", "0")
            key = (found.get("label"), group) if group != "0" else place
            groups.setdefault(key, []).append(shape_of(found, (height, width)))
        except ValueError as error:
            raise ValueError(f"{found.tag}[{place}]: {error}") from error
    shapes = [joined(parts, (height, width)) for parts in groups.values()]
    return LabelledImage(image_of(folder, record), height, width, shapes)


def image_of(folder: Path, record: Element) -> Path:
    """The file of an image: in images/, in the folder of its subset there, or beside the XML file."""
    places: tuple[Path, ...] = (folder / "images", folder / "images" / "default", folder)
    if subset := record.get("subset"):
        places = (inside(folder / "images", subset, "subset"), *places)
    given = [inside(place, record.get("name"), "name") for place in places]
    return next((path for path in given if path.is_file()), given[-1])


def shape_of(found: Element, size: tuple[int, int]) -> Shape:
    """An object; raises a ValueError where it is wrong."""
    name = found.get("label")
    if not name:
        raise ValueError("'label' is missing")
    turned = number(found.get("rotation", "0"), "rotation")
    if found.tag == "box":
        box = box_of(*(number(found.get(side), side) for side in ("xtl", "ytl", "xbr", "ybr")))
        return Shape(name, None, [turned_box(box, turned)]) if turned else Shape(name, box)
    if found.tag == "ellipse":
        x, y, across, down = (number(found.get(field), field) for field in ("cx", "cy", "rx", "ry"))
        return Shape(name, None, [ellipse(x, y, across, down, np.deg2rad(turned))])
    if found.tag == "mask":
        return Shape(name, None, runs_of(mask_of(found, size)))
    points = [number(value, "points") for point in (found.get("points") or "").split(";") for value in point.split(",")]
    if len(points) < 6 or len(points) % 2:
        raise ValueError(f"'points' of a polygon should be three or more, got {short(found.get('points'))}")
    return Shape(name, None, [points])


def mask_of(found: Element, size: tuple[int, int]) -> np.ndarray:
    """A mask (H, W), bool: "rle" is the lengths of runs of 0 and of 1 by turns, row by row inside the mask's box."""
    left, top, width, height = (int(number(found.get(field), field)) for field in ("left", "top", "width", "height"))
    if min(left, top) < 0 or min(width, height) < 1 or top + height > size[0] or left + width > size[1]:
        raise ValueError("the mask should lie inside its image")
    runs = [int(number(length, "rle")) for length in (found.get("rle") or "").split(",")]
    if min(runs) < 0 or sum(runs) != width * height:
        raise ValueError(f"'rle' should have {width * height} pixels in all, the mask's box, got {sum(runs)}")
    whole = np.zeros(size, dtype=bool)
    own = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    whole[top : top + height, left : left + width] = own.reshape(height, width)
    return whole
