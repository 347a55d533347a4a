"""One folder for each class, the layout of ImageNet and of torchvision's ImageFolder: finding the images."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from botvision.data.imagenet import flat_labels, text_lines
from botvision.data.images import UnreadableImage, check_inside
from botvision.errors import UserError
from botvision.pictures import IMAGE_SUFFIXES as PICTURE_SUFFIXES

logger = logging.getLogger("botvision")

IMAGE_SUFFIXES = PICTURE_SUFFIXES | {".gif", ".pgm", ".ppm"}
SPLIT_FOLDERS = {"train": ("train",), "val": ("val", "validation", "valid", "test")}
"""Names that the folder of a split may have; the first that exists counts. Other splits have their own name."""
NAME_FILES = ("words.txt", "LOC_synset_mapping.txt", "classnames.txt")
"""Files beside the splits, in which each line is a class, a blank and a name for people to read."""


class ClassFolders:
    """The images of a folder with a folder for each class: an `ImageStore` whose classes are those folders, sorted."""

    groups: np.ndarray | None = None
    """Every order of reading is equally fast."""

    def __init__(self, folder: Path, root: Path) -> None:
        """List the images of one split.

        Args:
            folder: holds one folder for each class, or ImageNet's validation images side by side.
            root: holds the splits, and the files about them.

        Raises:
            UserError: no images, a class without any, a link out of the folder, or labels that do not fit.
        """
        self.source: str | Path = folder
        self._folder = folder
        inside = folder.resolve()
        self.classes = sorted(entry.name for entry in _visible(folder, inside) if entry.is_dir())
        if self.classes:
            self._warn_of_strays()
            names = [sorted(_image_names(folder / name, inside)) for name in self.classes]
            self._refuse_empty(names)
            self.labels = np.repeat(np.arange(len(names)), [len(of_class) for of_class in names])
            files = [f"{self.classes[label]}/{name}" for label, of_class in enumerate(names) for name in of_class]
            self.class_names = class_names(root, self.classes)
        else:
            files = sorted(_image_names(folder, inside))
            if not files:
                raise UserError(f"{folder}: holds neither class folders nor images; give one folder for each class")
            self.classes, self.labels, called = flat_labels(root, folder, files)
            self.class_names = called or class_names(root, self.classes)
        # One block of memory, which worker processes share; they would each copy a million small texts.
        self._files = np.array([os.fsencode(file) for file in files])

    def name(self, index: int) -> str:
        """Path of an image."""
        return str(self._folder / os.fsdecode(self._files[index]))

    def encoded(self, index: int) -> tuple[bytes, str]:
        """The bytes of an image file, and its suffix.

        Raises:
            UnreadableImage: the file cannot be read.
        """
        path = Path(self.name(index))
        try:
            return path.read_bytes(), path.suffix
        except OSError as error:
            raise UnreadableImage(f"{path}: cannot be read ({error.strerror})") from error

    def _warn_of_strays(self) -> None:
        strays = [entry for entry in os.scandir(self._folder) if entry.is_file() and _is_image(entry.name)]
        if strays:
            logger.warning("%s: left out the images that lie in no class folder (%d)", self._folder, len(strays))

    def _refuse_empty(self, names: list[list[str]]) -> None:
        empty = [name for name, of_class in zip(self.classes, names, strict=True) if not of_class]
        if empty:
            more = f" ({len(empty)} such class folders)" if len(empty) > 1 else ""
            raise UserError(f"{self._folder / empty[0]}: holds no image{more}; fill the class folder or remove it")


def folder_names(split: str) -> tuple[str, ...]:
    """Names that the folder of a split may have."""
    return SPLIT_FOLDERS.get(split, (split,))


def find_split_folder(root: Path, split: str) -> Path:
    """The folder of a split.

    Raises:
        UserError: it is not there.
    """
    for name in folder_names(split):
        if (root / name).is_dir():
            return root / name
    names = " or ".join(f"{name}/" for name in folder_names(split))
    if not root.is_dir():
        raise UserError(
            f"{root}: no such folder; give one that holds train/ and val/, with a folder for each class in each"
        )
    raise UserError(
        f"{root}: holds no {names}; give the folder that holds train/ and val/, with a folder for each class in each"
    )


def class_names(root: Path, classes: list[str]) -> list[str]:
    """Readable names of the classes from one of `NAME_FILES`, otherwise the names of their folders.

    Where a line has several names, separated by commas, the first counts.

    Raises:
        UserError: such a file is not text in UTF-8.
    """
    for name in NAME_FILES:
        file = root / name
        if file.is_file():
            lines = (line.split(maxsplit=1) for line in text_lines(file))
            called = {parts[0]: parts[1].split(",")[0].strip() for parts in lines if len(parts) == 2}
            return [called.get(one, one) for one in classes]
    return list(classes)


def _image_names(folder: Path, inside: Path, prefix: str = "") -> Iterator[str]:
    """Paths of the images in a folder and the folders below it, relative to it."""
    for entry in _visible(folder, inside):
        if not entry.is_dir():
            if _is_image(entry.name):
                yield prefix + entry.name
        elif entry.is_symlink():  # it could lead to a folder that holds it
            raise UserError(f"{entry.path}: is a link to a folder inside a class; put the folder itself there")
        else:
            yield from _image_names(folder / entry.name, inside, f"{prefix}{entry.name}/")


def _is_image(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES


def _visible(folder: Path, inside: Path) -> Iterator[os.DirEntry[str]]:
    """The entries of a folder, without hidden ones.

    Raises:
        UserError: a link leads out of the folder `inside`.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_symlink():
                check_inside(Path(entry.path), inside)
            yield entry
