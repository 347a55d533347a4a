"""Pascal VOC's format: an XML file for each image, as LabelImg, Roboflow and CVAT write it.

The first pixel is number 1 and the last one belongs to the box (VOC2012's development kit), so that a box spans from
xmin - 1 to xmax here, as in Detectron2. "difficult" objects count like others. Known are VOC's folders (Annotations/,
JPEGImages/, ImageSets/Main/train.txt), and XML files beside their images, in train/ and valid/ or in one folder.
"""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PureWindowsPath
from xml.etree.ElementTree import Element

from botvision.data.formats.building import (
    FormatSplit,
    LabelledImage,
    Shape,
    box_of,
    each_read,
    has_file_with,
    in_coco_form,
    inside,
    number,
    read_bytes,
    read_xml,
)
from botvision.data.formats.places import ImagesByStem, split_folders, warn_of_unlabelled
from botvision.data.images import upright_size
from botvision.errors import UserError, short

NAME = "Pascal VOC"
NEEDS = "XML files with <annotation>, in Annotations/ or beside their images"
KIT = "Annotations"
ROOT = re.compile(rb"<annotation[\s>]")


def is_here(folder: Path) -> bool:
    """Whether a folder holds XML files with this format's root."""
    return any(has_file_with(place, "*.xml", ROOT) for place in places(folder).values())


def read(folder: Path) -> dict[str, FormatSplit]:
    """Every split of a data set.

    Raises:
        UserError: names the file and the field that is wrong.
    """
    listed = listed_files(folder) if (folder / KIT).is_dir() else {}
    files = listed or {split: (place, sorted(place.glob("*.xml"))) for split, place in places(folder).items()}
    images = ImagesByStem()
    read_one = partial(labelled, root=folder, images=images)
    splits = {split: (source, list(each_read(own, read_one))) for split, (source, own) in files.items()}
    found = in_coco_form(NAME, folder, splits)
    if not listed:  # lists may leave out what they like
        paths = {image.path for _, read in splits.values() for image in read if isinstance(image, LabelledImage)}
        looked_at = {path.parent for path in paths}.union(source for source, _ in files.values())
        warn_of_unlabelled(folder, looked_at, paths, images)
    return found


def places(folder: Path) -> dict[str, Path]:
    """The folders of XML files by split."""
    return {"train": folder / KIT} if (folder / KIT).is_dir() else split_folders(folder)


def listed_files(folder: Path) -> dict[str, tuple[Path, list[Path]]]:
    """The annotation files of each split that ImageSets/Main lists; empty without lists."""
    lists = folder / "ImageSets" / "Main"
    found = {}
    for split in ("train", "val", "test"):
        source = lists / f"{split}.txt"
        if source.is_file():
            names = read_bytes(source).decode("utf-8", "replace").split()
            files = [folder / KIT / f"{Path(name).name}.xml" for name in names]
            missing = [file for file in files if not file.is_file()]
            if missing and split != "test":  # VOC2012 keeps those of its test images back
                raise UserError(f"{missing[0]}: no such file, which {source} lists ({len(missing)} such)")
            if not missing:
                found[split] = source, files
    return found


def labelled(file: Path, root: Path, images: ImagesByStem) -> LabelledImage:
    """The image of an annotation file, with its objects."""
    tree = read_xml(file)
    try:
        if tree.tag != "annotation":
            raise ValueError(f"should be an <annotation>, got <{short(tree.tag)}>")
        path = image_of(tree, file, root, images)
        height, width = size_of(tree) or upright_size(path)
        return LabelledImage(path, height, width, list(shapes_of(tree)))
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{file}: {error}") from error


def image_of(tree: Element, file: Path, root: Path, images: ImagesByStem) -> Path:
    """The image: by the name of the annotation file, which tools keep, else by 'filename'.

    Of several that differ in their suffix it is the one of 'filename'.
    """
    folders = [file.parent, root / "JPEGImages", root / "images"]
    beside = [path for folder in folders for path in images.of(folder, file.stem)]
    name = tree.findtext("filename")
    if beside:
        own = PureWindowsPath(name or "").name
        return next((path for path in beside if path.name == own), beside[0])
    given = [inside(folder, name, "filename") for folder in folders]
    return next((path for path in given if path.is_file()), given[0])


def size_of(tree: Element) -> tuple[int, int] | None:
    """(H, W) in pixels; None where the file does not say it, or says 0."""
    sides = [tree.findtext(f"size/{side}") for side in ("height", "width")]
    height, width = (int(number(side, "size")) if side else 0 for side in sides)
    return (height, width) if height > 0 and width > 0 else None


def shapes_of(tree: Element) -> Iterator[Shape]:
    """The objects; raises a ValueError where one is wrong."""
    for place, found in enumerate(tree.findall("object")):
        name, box = (found.findtext("name") or "").strip(), found.find("bndbox")
        try:
            if not name:
                raise ValueError("'name' is missing")
            if box is None:
                raise ValueError("'bndbox' is missing")
            x1, y1, x2, y2 = (number(box.findtext(side), side) for side in ("xmin", "ymin", "xmax", "ymax"))
            left, top, right, bottom = box_of(x1, y1, x2, y2)
            yield Shape(name, (left - 1, top - 1, right, bottom), polygon_of(found))
        except ValueError as error:
            raise ValueError(f"object[{place}] ({short(name)}): {error}") from error


def polygon_of(found: Element) -> list[list[float]] | None:
    """The outline that Roboflow writes beside the box: <polygon> of x1, y1, x2, y2 and so on, counted from 1 too."""
    outline = found.find("polygon")
    if outline is None or len(outline) < 6:
        return None
    return [[number(value.text, value.tag) - 1 for value in outline]]
