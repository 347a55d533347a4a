"""Annotations of other tools brought into COCO's form, piece by piece."""

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple, TypeVar
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np
from hotcoco import mask as coco_mask

from botvision.data.masks import mask_box, run_lengths, usable_segmentation
from botvision.errors import SeveralErrors, UserError, short
from botvision.files import read_file

ROUND_POINTS = 64
"""Corners of the polygon that stands for a circle or an ellipse."""
LARGEST = 2**29
"""Bytes of an annotation file that is read."""

Box = tuple[float, float, float, float]
Outline = Sequence[tuple[float, float]]
T = TypeVar("T")


class Shape(NamedTuple):
    """An annotated object, of a class that is given by its name."""

    name: str
    box: Box | None
    """x1, y1, x2, y2 in pixels; None: that of the mask."""
    segmentation: list[list[float]] | dict[str, Any] | None = None
    """COCO's polygons or run lengths."""


class LabelledImage(NamedTuple):
    """An image with its objects."""

    path: Path
    height: int
    width: int
    shapes: list[Shape]


class FormatSplit(NamedTuple):
    """A split of a data set of another tool, in COCO's form."""

    format: str
    """For people to read."""
    source: Path
    """What messages name."""
    image_folder: Path
    content: dict[str, Any]


def each_read(given: Iterable[T], read: Callable[[T], LabelledImage]) -> Iterator[LabelledImage | UserError]:
    """The image of every annotation file, or why it cannot be read, so that one wrong file does not hide the others."""
    for one in given:
        try:
            yield read(one)
        except UserError as error:
            yield error


def in_coco_form(
    format_name: str,
    root: Path,
    splits: Mapping[str, tuple[Path, Iterable[LabelledImage | UserError]]],
    names: Sequence[str] | None = None,
) -> dict[str, FormatSplit]:
    """Every split as COCO has it, all with the same categories.

    Args:
        format_name: of the tool's format.
        root: folder that holds every image.
        splits: for each split what messages name, and its images, as `each_read` gives them.
        names: of all classes, in their order; by default those that occur, sorted.

    Raises:
        SeveralErrors: images whose annotations cannot be read, of all splits.
    """
    read, problems = read_splits(splits)
    if problems:
        raise SeveralErrors(problems)
    used = {shape.name for _, images in read.values() for image in images for shape in image.shapes}
    listed = list(names) if names is not None else sorted(used)
    # Several classes may have one name; the first of them then counts.
    ids = {name: number for number, name in reversed(list(enumerate(listed, start=1)))}
    categories = [{"id": number, "name": name} for number, name in enumerate(listed, start=1)]
    found = {}
    for split, (source, images) in read.items():
        content: dict[str, Any] = {"images": [], "annotations": [], "categories": [dict(one) for one in categories]}
        for number, image in enumerate(images, start=1):
            name = image.path.relative_to(root).as_posix()
            content["images"].append({"id": number, "file_name": name, "height": image.height, "width": image.width})
            for shape in image.shapes:
                record = {"id": len(content["annotations"]) + 1, "image_id": number, "category_id": ids[shape.name]}
                content["annotations"].append(record | coco_fields(shape, (image.height, image.width)))
        found[split] = FormatSplit(format_name, source, root, content)
    return found


def read_splits(
    splits: Mapping[str, tuple[Path, Iterable[LabelledImage | UserError]]],
) -> tuple[dict[str, tuple[Path, list[LabelledImage]]], list[UserError]]:
    """The images of every split that can be read, and why the others cannot, each file of several splits once."""
    read: dict[str, tuple[Path, list[LabelledImage]]] = {}
    problems: dict[str, UserError] = {}
    for split, (source, images) in splits.items():
        read[split] = source, []
        for image in images:
            if isinstance(image, UserError):
                problems[str(image)] = image
            else:
                read[split][1].append(image)
    return read, list(problems.values())


def coco_fields(shape: Shape, size: tuple[int, int]) -> dict[str, Any]:
    """The box and the mask of an object as COCO has them, in an image (H, W)."""
    fields: dict[str, Any] = {"iscrowd": 0}
    if box := box_around(shape, size):
        fields["bbox"] = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
    if shape.segmentation is not None:
        fields["segmentation"] = shape.segmentation
    return fields


def box_of(x1: float, y1: float, x2: float, y2: float) -> Box:
    """The box between two opposite corners, whichever comes first."""
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def flat(points: Outline) -> list[float]:
    """COCO's polygon: x1, y1, x2, y2 and so on."""
    return [value for point in points for value in point]


def ellipse(x: float, y: float, radius_x: float, radius_y: float, turned: float = 0.0) -> list[float]:
    """An ellipse around a point as a polygon, turned clockwise by an angle in radians."""
    corners = []
    for number in range(ROUND_POINTS):
        angle = 2 * math.pi * number / ROUND_POINTS
        across, down = radius_x * math.cos(angle), radius_y * math.sin(angle)
        corners.append(
            (
                x + across * math.cos(turned) - down * math.sin(turned),
                y + across * math.sin(turned) + down * math.cos(turned),
            )
        )
    return flat(corners)


def turned_box(box: Box, degrees: float) -> list[float]:
    """A box turned clockwise around its centre, as a polygon."""
    x1, y1, x2, y2 = box
    x, y, angle = (x1 + x2) / 2, (y1 + y2) / 2, math.radians(degrees)
    corners = [(x1 - x, y1 - y), (x2 - x, y1 - y), (x2 - x, y2 - y), (x1 - x, y2 - y)]
    cos, sin = math.cos(angle), math.sin(angle)
    return flat([(x + across * cos - down * sin, y + across * sin + down * cos) for across, down in corners])


def runs_of(bitmap: np.ndarray) -> dict[str, Any]:
    """A mask (H, W) of 0 and other values as COCO's run lengths."""
    return as_text(coco_mask.encode(np.asfortranarray(bitmap != 0, dtype=np.uint8)))


def as_text(runs: Mapping[str, Any]) -> dict[str, Any]:
    """Compressed run lengths as JSON holds them."""
    counts = runs["counts"]
    return {"size": list(runs["size"]), "counts": counts.decode() if isinstance(counts, bytes) else counts}


def joined(parts: Sequence[Shape], size: tuple[int, int]) -> Shape:
    """One object of the parts that a tool groups: the box is around all of them, the mask what any of them covers.

    Args:
        parts: of one class; where none has an outline, the object has none.
        size: (H, W) of the image, in pixels.

    Raises:
        ValueError: an outline that is none of COCO's.
    """
    if len(parts) == 1:
        return parts[0]
    boxes = [box for part in parts if (box := box_around(part, size))]
    box = None
    if boxes:
        x1, y1, x2, y2 = zip(*boxes, strict=True)
        box = min(x1), min(y1), max(x2), max(y2)
    if all(part.segmentation is None for part in parts):
        return Shape(parts[0].name, box)
    outlines = [outline for part in parts if (outline := outline_of(part))]
    polygons = [polygon for outline in outlines if isinstance(outline, list) for polygon in outline]
    if all(isinstance(outline, list) for outline in outlines):
        return Shape(parts[0].name, box, polygons)
    runs = [run_lengths(usable_segmentation(outline, *size), *size) for outline in outlines]
    return Shape(parts[0].name, box, as_text(coco_mask.merge(runs)))


def outline_of(shape: Shape) -> list[list[float]] | dict[str, Any] | None:
    """The mask of a shape; of one that is a box alone, its rectangle."""
    if shape.segmentation is None and shape.box is not None:
        return [turned_box(shape.box, 0)]
    return shape.segmentation


def box_around(shape: Shape, size: tuple[int, int]) -> Box | None:
    """The box of a shape, else that of its polygons or its mask in an image (H, W); None of a mask without a pixel."""
    if shape.box is not None:
        return shape.box
    if isinstance(shape.segmentation, list):
        x, y = ([value for part in shape.segmentation for value in part[start::2]] for start in (0, 1))
        return min(x), min(y), max(x), max(y)
    x1, y1, width, height = mask_box(shape.segmentation, *size) if shape.segmentation else (0.0,) * 4
    return (x1, y1, x1 + width, y1 + height) if width and height else None


def number(value: object, field: str) -> float:
    """A finite number, given as such or as a text; raises a ValueError that names the field."""
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError
        found = float(value)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"'{field}' should be a number, got {short(value)}") from error
    if not math.isfinite(found):
        raise ValueError(f"'{field}' should be a finite number, got {short(value)}")
    return found


def inside(folder: Path, name: object, field: str, root: Path | None = None) -> Path:
    """A file inside a folder by a name as a tool writes it; raises a ValueError for one that leads out of it.

    With a root, that the folder lies in, the name may have "..", as long as it does not lead out of the root.
    """
    if not isinstance(name, str) or not name or "\0" in name:
        raise ValueError(f"'{field}' should be the name of a file, got {short(name)}")
    windows = PureWindowsPath(name)
    if PurePosixPath(name).is_absolute() or windows.anchor or (".." in windows.parts and root is None):
        raise ValueError(f"'{field}' {short(name)} should be a path inside {folder}, without '..'")
    path = folder / name
    path = path if os.path.lexists(path) else folder / name.replace("\\", "/")
    if root is None:
        return path
    below = Path(os.path.relpath(path, root))
    if ".." in below.parts:
        raise ValueError(f"'{field}' {short(name)} leads out of {root}; give the folder that holds the images too")
    return root / below


def read_xml(file: Path) -> ElementTree.Element:
    """The root of an XML file.

    Raises:
        UserError: it cannot be read, is no XML, or declares something of its own, such as entities, by which a few
            lines can mean gigabytes. The name of a document type elsewhere is never followed.
    """
    content = read_bytes(file)

    def check(name: str, system: str | None, public: str | None, declarations: bool) -> None:
        if declarations:
            raise UserError(f"{file}: has a DOCTYPE with declarations, which annotation files do not need; remove it")

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = check  # before the first declaration is read
    try:
        parser.Parse(content, True)
        return ElementTree.fromstring(content)
    except (expat.ExpatError, ElementTree.ParseError, ValueError, LookupError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{file}: no XML ({error}); export the labels again") from error


def has_file_with(folder: Path, pattern: str, mark: re.Pattern[bytes]) -> bool:
    """Whether a file of a folder holds what tells a format, anywhere in it; they are looked at in order.

    Raises:
        UserError: a file cannot be read, or is too large.
    """
    return any(file.is_file() and mark.search(read_bytes(file)) for file in sorted(folder.glob(pattern)))


def read_bytes(file: Path) -> bytes:
    """The content of an annotation file.

    Raises:
        UserError: it cannot be read, or is too large.
    """
    try:
        return read_file(file, LARGEST)
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from error
