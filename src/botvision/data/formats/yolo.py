"""YOLO's format, as Ultralytics documents it: a YAML file, and beside each image a text file of boxes or polygons.

Each line is "class x y width height" (centre and size) or "class x1 y1 x2 y2 x3 y3 ...", as shares of the image's width
and height. Oriented boxes are polygons of four corners. Where the YAML file has "kpt_shape", a line is a box and its
keypoints, which are left out. A split is a folder of images, several of them, or a text file that lists images. Without
a YAML file, classes.txt names the classes, as Label Studio writes it.
"""

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from botvision.data.formats.building import (
    FormatSplit,
    LabelledImage,
    Shape,
    each_read,
    in_coco_form,
    inside,
    number,
    read_bytes,
)
from botvision.data.formats.places import SPLIT_NAMES, image_files
from botvision.data.images import upright_size
from botvision.errors import UserError, short

logger = logging.getLogger("botvision")

NAME = "YOLO"
NEEDS = "data.yaml with 'names', obj.names, or classes.txt beside images/ and labels/"
DARKNET = "obj.names"
CLASSES = "classes.txt"
"""Label Studio's name of the file with the names of the classes, and LabelImg's, which lies among the labels."""
LARGEST_SHARE = 2.0
"""Of an image's side: outlines may reach out of the image, but not so far."""
SPLITS = ("train", "val", "valid", "test")
LIST = ".txt"
"""Suffix of a list of images."""
OPTIONAL = "test"
"""A split that Roboflow's YAML file names whether it is there or not, and that training does not need."""


class Classes(NamedTuple):
    """What the lines of a data set mean."""

    names: list[str]
    """Of the classes, in their order."""
    keypoint_values: int = 0
    """Numbers after the box of a line, which are keypoints."""
    doubt: str = ""
    """What to say beside a class that has no name."""


def is_here(folder: Path) -> bool:
    """Whether a folder holds labels in this format."""
    listed = (folder / CLASSES).is_file() and (folder / "labels").is_dir() and (folder / "images").is_dir()
    return listed or (folder / DARKNET).is_file() or yaml_file(folder) is not None


def yaml_file(folder: Path) -> Path | None:
    """The YAML file of a data set: the only one, or that of a usual name."""
    files = sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
    usual = [file for file in files if file.stem in ("data", "dataset")]
    candidates = usual or files
    return candidates[0] if len(candidates) == 1 and b"names" in read_bytes(candidates[0]) else None


def read(folder: Path) -> dict[str, FormatSplit]:
    """Every split of a data set.

    Raises:
        UserError: names the file, the line and the field that is wrong.
    """
    source = next((folder / name for name in (DARKNET, CLASSES) if (folder / name).is_file()), None)
    file = yaml_file(folder)
    if file is not None:
        classes, places = settings(file, folder)
        source = file
    elif source is not None:
        classes = Classes([line.strip() for line in text_of(source).splitlines() if line.strip()])
        folders = darknet_folders(folder) if source.name == DARKNET else {"train": folder / "images"}
        places = {split: [images] for split, images in folders.items()}
    if not places:
        raise UserError(f"{source}: found no folders of images for it in {folder}; give 'train' and 'val' there")
    test = places.get(OPTIONAL, [])
    if len(places) > 1 and test and not any(has_labels(place, folder) for place in test):
        logger.warning("%s: has no images with labels; left out", test[0])
        del places[OPTIONAL]
    distinct = dict.fromkeys(part for parts in places.values() for part in parts)
    files = {part: in_list(part, folder) if part.is_file() else in_folder(part, folder) for part in distinct}
    splits = {}
    for split, parts in places.items():
        named = parts[0] if parts[0].is_file() else labels_folder(parts[0], folder)
        source_of_split = named if len(parts) == 1 else Path(f"{source}:{split}")
        splits[split] = source_of_split, of_split([files[part] for part in parts], classes)
    return in_coco_form(NAME, folder, splits, classes.names)


def has_labels(place: Path, folder: Path) -> bool:
    """Whether a folder, or a list, of images has some, with labels."""
    if place.is_dir():
        return bool(image_files(place) and labels_folder(place, folder).is_dir())
    try:
        return bool(in_list(place, folder))
    except UserError:
        return False


def darknet_folders(folder: Path) -> dict[str, Path]:
    """obj_train_data and so on, by split; CVAT calls the validation split valid, and other subsets as the user does."""
    found = {path.name[len("obj_") : -len("_data")].lower(): path for path in sorted(folder.glob("obj_*_data"))}
    return {SPLIT_NAMES.get(name, name): path for name, path in found.items()}


def usual_folders(folder: Path) -> dict[str, Path]:
    """The image folders of the splits by their usual names, for a YAML file that does not name them."""
    found = {}
    for name in SPLITS:
        for path in (folder / name / "images", folder / "images" / name):
            if path.is_dir():
                found[SPLIT_NAMES.get(name, name)] = path
    return found


def yaml_of(file: Path) -> dict[str, Any]:
    """What a YAML file holds; aliases are refused, by which a few lines can mean gigabytes."""
    content = read_bytes(file)
    try:
        for event in yaml.parse(content, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                line = f"line {event.start_mark.line + 1}: " if event.start_mark else ""
                raise UserError(f"{file}: {line}should have no aliases, got the one of {short(event.anchor)}")
        found = yaml.safe_load(content)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{file}: no readable YAML: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict):
        raise UserError(f"{file}: should hold 'train', 'val' and 'names'")
    return found


def settings(file: Path, folder: Path) -> tuple[Classes, dict[str, list[Path]]]:
    """The classes, and the folders of images of each split, or lists of these."""
    content = yaml_of(file)
    places = {}
    for name in SPLITS:
        if not content.get(name):
            continue
        try:
            places[SPLIT_NAMES.get(name, name)] = image_places(file, folder, content, name)
        except UserError as error:
            if name != OPTIONAL:
                raise
            logger.warning("test split left out: %s", error)
    names, count = class_names(file, content.get("names")), content.get("nc")
    doubt = ""
    if isinstance(count, int) and count != len(names):
        doubt = f"; {file} has 'nc' {short(count)}, but {len(names)} 'names': give a name for each class there"
    classes = Classes(names, keypoint_values(file, content.get("kpt_shape")), doubt)
    return classes, places or {split: [images] for split, images in usual_folders(folder).items()}


def keypoint_values(file: Path, shape: Any) -> int:  # noqa: ANN401 (whatever the file holds)
    """Numbers of the keypoints of a line, from 'kpt_shape': their count, and 2 or, with a visibility, 3."""
    if shape is None:
        return 0
    if (
        not isinstance(shape, list)
        or [type(side) for side in shape] != [int, int]
        or shape[0] < 1
        or shape[1] not in (2, 3)
    ):
        raise UserError(f"{file}: 'kpt_shape' should be [count, 2] or [count, 3], got {short(shape)}")
    logger.warning("%s: has keypoints ('kpt_shape'), of which boxes alone are read", file)
    return shape[0] * shape[1]


def class_names(file: Path, names: Any) -> list[str]:  # noqa: ANN401 (whatever the file holds)
    """The names in their order, from a list or from numbers and names."""
    if isinstance(names, dict) and sorted(map(str, names)) == sorted(map(str, range(len(names)))):
        names = [names.get(place, names.get(str(place))) for place in range(len(names))]
    if not isinstance(names, list) or not names:
        raise UserError(f"{file}: 'names' should be a list of names, or numbers from 0 on with names")
    return list(map(str, names))


def image_places(file: Path, folder: Path, content: dict[str, Any], split: str) -> list[Path]:
    """Where the images of a split are: one or several folders, or text files that list images."""
    given = content[split]
    names = given if isinstance(given, list) else [given]
    if not all(isinstance(name, str) and name for name in names):
        raise UserError(f"{file}: '{split}' should be a folder of images, or a list of folders, got {short(given)}")
    base = content.get("path")
    starts = [folder, folder / base if isinstance(base, str) else folder]
    return [image_place(file, folder, starts, split, name) for name in names]


def image_place(file: Path, folder: Path, starts: list[Path], split: str, given: str) -> Path:
    """A folder of images, or a list of them, by its name; Roboflow writes it with one ".." too many."""
    for start in starts:
        for name in (given, given.removeprefix("../"), f"{given.removeprefix('../')}/images"):
            path = (start / name).resolve()
            if not path.is_relative_to(folder.resolve()):
                continue
            below = path.relative_to(folder.resolve())
            is_list = path.is_file() and path.suffix == LIST
            is_folder = path.is_dir() and "images" in below.parts
            if is_list or is_folder:
                return folder / below
    raise UserError(
        f"{file}: '{split}' is {short(given)}, no folder inside {folder} with 'images' in its path; "
        "labels/ has to lie beside images/"
    )


def labels_folder(images: Path, folder: Path) -> Path:
    """Where the labels of images are: the last "images" below the data set is "labels" there, else beside them."""
    parts = images.relative_to(folder).parts
    if "images" not in parts:
        return images
    place = len(parts) - 1 - parts[::-1].index("images")
    return folder.joinpath(*parts[:place], "labels", *parts[place + 1 :])


def of_split(parts: list[dict[Path, Path]], classes: Classes) -> Iterator[LabelledImage | UserError]:
    """The images of a split, each once, as `each_read` gives them; given the label files by the images of its parts."""
    files = {path: file for part in parts for path, file in part.items()}
    return each_read(files.items(), partial(labelled, classes=classes))


def labelled(files: tuple[Path, Path], classes: Classes) -> LabelledImage:
    """An image with the objects of its text file; without one it has none."""
    path, file = files
    height, width = upright_size(path)
    lines = text_of(file).splitlines() if file.is_file() else []
    shapes = []
    for place, line in enumerate(lines, start=1):
        try:
            shapes += [shape_of(line.split(), classes, height, width)] if line.strip() else []
        except ValueError as error:
            raise UserError(f"{file}: line {place}: {error}") from error
    return LabelledImage(path, height, width, shapes)


def in_folder(images: Path, folder: Path) -> dict[Path, Path]:
    """The label files by the images of a folder; warns of label files that have no image.

    Those of images in a folder below are in the folder of the same name below the labels, as Ultralytics has it.
    """
    labels = labels_folder(images, folder)
    if not labels.is_dir():
        raise UserError(f"{labels}: no such folder; the labels of {images} belong there")
    found = {path: labels / path.relative_to(images).with_suffix(".txt") for path in image_files(images)}
    without = sorted(set(label_files(labels)) - set(found.values()))
    if without:
        logger.warning(
            "%s: left out %d label files that have no image, such as %s; restore their images in %s, or remove them",
            *(labels, len(without), without[0], images),
        )
    return found


def label_files(labels: Path) -> Iterator[Path]:
    """The text files in a folder of labels and the folders below it; not the one that names the classes."""
    for file in labels.rglob("*.txt"):
        if file.name != CLASSES and not any(part.startswith(".") for part in file.relative_to(labels).parts):
            yield file


def in_list(file: Path, folder: Path) -> dict[Path, Path]:
    """The label files by the images that the lines of a text file name, from its own folder or the data set's."""
    pairs = {}
    for place, line in enumerate(text_of(file).splitlines(), start=1):
        name = line.strip()
        if not name:
            continue
        try:  # CVAT writes data/images/train/a.jpg, and no such folder data
            given = [
                inside(*base, "image")
                for base in ((file.parent, name), (folder, name), (folder, name.removeprefix("data/")))
            ]
            path = next((path for path in given if path.is_file()), None)
            if path is None:
                raise ValueError(f"image {short(name)} is not in {folder}")
        except ValueError as error:
            raise UserError(f"{file}: line {place}: {error}") from error
        pairs[path] = labels_folder(path.parent, folder) / f"{path.stem}.txt"
    if not any(labels.is_file() for labels in pairs.values()):
        such_as = "".join(f", such as {labels}" for labels in list(pairs.values())[:1])
        raise UserError(f"{file}: no image of this list has labels{such_as}")
    return pairs


def shape_of(words: list[str], classes: Classes, height: int, width: int) -> Shape:
    """The object of a line; raises a ValueError where it is wrong."""
    label = number(words[0], "class")  # some tools write 0.0
    if not 0 <= label < len(classes.names) or label != int(label):
        problem = f"'class' should be a whole number below {len(classes.names)}, got {short(words[0])}"
        raise ValueError(problem + classes.doubt)
    name, values = classes.names[int(label)], [number(word, "coordinate") for word in words[1:]]
    if classes.keypoint_values and len(values) == 4 + classes.keypoint_values:
        values = values[:4]
    if max(values, default=0.0) > LARGEST_SHARE:
        raise ValueError("coordinates should be shares of the image, from 0 to 1, not pixels")
    if len(values) == 4:
        x, y, w, h = values
        return Shape(name, ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height))
    if classes.keypoint_values:
        raise ValueError(
            f"should be 'class x y width height' and {classes.keypoint_values} values of keypoints ('kpt_shape'), "
            f"got {len(words)} values"
        )
    if len(values) < 6 or len(values) % 2:
        raise ValueError(
            f"should be 'class x y width height', or a class and three or more corners, got {len(words)} values"
        )
    points = [value * (height if place % 2 else width) for place, value in enumerate(values)]
    return Shape(name, None, [points])


def text_of(file: Path) -> str:
    """A text file in UTF-8."""
    try:
        return read_bytes(file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not text in UTF-8 at byte {error.start}") from error
