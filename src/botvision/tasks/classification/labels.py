"""The images to score a classifier on, and the labels that count: the data set's own or those of a file.

Beside data sets of the model's own classes these are ImageNet-V2 (Recht et al. 2019; folders named by the place of the
class among ImageNet's sorted ones), subsets of the classes such as ImageNet-A's, lists of images with their labels, and
ImageNet-ReaL (Beyer et al. 2020; several right labels for an image).
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError
from torch import Tensor

from botvision.configuration import FieldError
from botvision.data.class_folders import ClassFolders, ImageFiles, folder_names
from botvision.data.classification import ImageClasses, ImageStore, open_images
from botvision.data.image_files import find_images
from botvision.errors import UserError, first_few
from botvision.tasks.classification.evaluate import RightLabels

REAL_IMAGES = 50_000
"""Number of images in ImageNet's validation set, each with an entry in a file of ImageNet-ReaL."""
Label = Annotated[int, Field(strict=True, ge=0)]
REAL_LABELS = TypeAdapter(Annotated[list[list[Label]], Field(min_length=REAL_IMAGES, max_length=REAL_IMAGES)])
REAL_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.")
CLASSES_SHOWN = 5


def open_labelled(
    root: str,
    split: str,
    transform: Callable[[Tensor], Tensor],
    classes: Sequence[str],
    class_names: Sequence[str],
    *,
    labels: Path | None = None,
    limit: int | None = None,
    follow_links: bool = False,
    channels: int | None = None,
) -> tuple[ImageClasses, RightLabels]:
    """Open images to score a classifier on.

    Args:
        root: whatever :func:`~botvision.data.open_classes` opens, or a folder that holds the class folders itself.
            Their names are the model's classes or some of them, or 0 .. K-1 (ImageNet-V2).
        split: "train", "val" or the name of another folder; not looked at where `root` holds the class folders itself.
        transform, channels: as of :class:`~botvision.data.ImageClasses`.
        classes, class_names: of the model, output by output.
        labels: a file of labels that count instead, see :func:`read_labels`.
        limit: so many images alone.
        follow_links: whether links in class folders may lead to files elsewhere.

    Raises:
        UserError: no such data, classes that are not the model's, or a label file that cannot be used.
    """
    if labels is not None:
        right = read_labels(labels, Path(root), split, classes)
        first = np.array([own[0] for own in right.values()], dtype=np.int64)
        listed = ImageFiles(labels, right, first, classes, class_names)
        return ImageClasses(listed, transform, limit=limit, channels=channels), lambda target: right[target["path"]]
    images = own_images(root, split, classes, follow_links)
    dataset = ImageClasses(images, transform, limit=limit, channels=channels)
    places = class_places(dataset.classes, classes)
    if not places:
        unknown = first_few([repr(name) for name in dataset.classes if name not in classes], CLASSES_SHOWN)
        raise UserError(f"{dataset.source}: its classes are not the model's {len(classes)}, which have no {unknown}")
    return dataset, lambda target: [places[target["label"]]]


def own_images(root: str, split: str, classes: Sequence[str], follow_links: bool) -> ImageStore:
    """The images of a split, or of a folder that holds nothing but folders of the model's classes."""
    folder = Path(root)
    entries = folder.iterdir() if folder.is_dir() else ()
    inside = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    if class_places(inside, classes):
        return ClassFolders(folder, folder, follow_links=follow_links)
    return open_images(root, split, follow_links=follow_links)


def class_places(names: Sequence[str], classes: Sequence[str]) -> list[int]:
    """The model's output for each of some names; empty where they are not the names of its K classes.

    They may also be all of "0" .. "K-1", which stand for its classes in sorted order.
    """
    place = {name: number for number, name in enumerate(classes)}
    if set(names) <= place.keys():
        return [place[name] for name in names]
    if set(names) == {str(number) for number in range(len(classes))}:
        in_order = sorted(classes)
        return [place[in_order[int(name)]] for name in names]
    return []


def read_labels(file: Path, root: Path, split: str, classes: Sequence[str]) -> dict[str, list[int]]:
    """Right labels of image files.

    Args:
        file: JSON as ImageNet-ReaL has it, a list with a list of labels for each image of ImageNet's validation set;
            or lines of a path and a label, the path below the split's folder or below the data folder.
        root, split: the data folder, and "train", "val" or the name of another folder in it.
        classes: of the model. A label is the place of a class in sorted order, from 0; in lines also its name.

    Returns:
        {path: right outputs of the model}; images without a right label are left out.

    Raises:
        UserError: the file or an image is not there or not as it should be; a label is none of the model's.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; labels of a file go with a folder of images")
    folder = next((root / name for name in folder_names(split) if (root / name).is_dir()), root)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FieldError(("labels",), f"{file}: {error}; give JSON, or lines of path and label") from error
    if file.suffix == ".json":
        right = real_labels(file, text, folder, classes)
    else:
        right = listed_labels(file, text, (folder, root), classes)
    if not right:
        raise UserError(f"{file}: has a right label for none of the images in {folder}")
    return right


def real_labels(file: Path, text: str, folder: Path, classes: Sequence[str]) -> dict[str, list[int]]:
    """:func:`read_labels` for the text of an ImageNet-ReaL file and all images below a folder."""
    try:
        entries = REAL_LABELS.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = f"image {int(first['loc'][0]) + 1}: " if first["loc"] else ""
        raise UserError(
            f"{file}: {where}{first['msg']}; it should be JSON with a list of labels, whole numbers from 0 on, for "
            f"each of {REAL_IMAGES} images"
        ) from error
    outputs = sorted(range(len(classes)), key=lambda output: classes[output])
    right: dict[str, list[int]] = {}
    for path in find_images([folder]):
        match = REAL_NAME.match(path.name)
        number = int(match[1]) if match else 0
        if not 1 <= number <= REAL_IMAGES:
            raise UserError(f"{path}: is no image that {file} has labels for, such as ILSVRC2012_val_00000001.JPEG")
        labels = entries[number - 1]
        if max(labels, default=0) >= len(outputs):
            raise UserError(f"{file}: image {number} has label {max(labels)}, the model's are 0 to {len(outputs) - 1}")
        right[str(path)] = [outputs[label] for label in labels]
    return {path: labels for path, labels in right.items() if labels}


def listed_labels(file: Path, text: str, folders: Sequence[Path], classes: Sequence[str]) -> dict[str, list[int]]:
    """:func:`read_labels` for lines of a path, below one of the folders, and a label; empty lines are left out."""
    outputs = {str(place): classes.index(name) for place, name in enumerate(sorted(classes))}
    outputs |= {name: output for output, name in enumerate(classes)}  # a name counts where it is a number too
    right: dict[str, list[int]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        name, _, label = line.strip().rpartition(" ")
        if not name:
            raise UserError(f"{file}: line {number} is {line[:60]!r}, it should be a path and a label")
        if label not in outputs:
            raise UserError(
                f"{file}: line {number} has label {label!r}, which is none of the model's {len(classes)} classes "
                f"and no number from 0 to {len(classes) - 1}"
            )
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise UserError(f"{file}: line {number} has path {name!r}, which leads out of {folders[-1]}")
        found = next((folder / name.strip() for folder in folders if (folder / name.strip()).is_file()), None)
        if found is None:
            raise UserError(f"{file}: line {number} names {name!r}, which is no file in {folders[0]}")
        right[str(found)] = [outputs[label]]
    return right
