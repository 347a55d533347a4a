"""One folder for each class, the layout of ImageNet and of torchvision's ImageFolder: finding the images."""

import itertools
import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from botvision.data.findings import Findings
from botvision.data.formats.bare_yolo import labelled_folders, missing_settings
from botvision.data.image_files import ImageFolder, image_suffixes
from botvision.data.imagenet import class_name, flat_labels, has_flat_labels, text_lines
from botvision.data.images import BYTES_A_PIXEL, UnreadableImage, max_pixels
from botvision.errors import UserError, short
from botvision.files import read_file, what_is_in

SPLIT_FOLDERS = {"train": ("train",), "val": ("val", "validation", "valid", "test")}
"""Names that the folder of a split may have; the first that exists counts. Other splits have their own name."""
LISTED_AT_ONCE = 100_000
"""Names of files that are joined to one text."""
NAME_FILES = ("words.txt", "LOC_synset_mapping.txt", "classnames.txt")
"""Files beside the splits, in which each line is a class, a blank and a name for people to read."""


class ImageFiles:
    """Image files with their labels: an `ImageStore`."""

    groups: np.ndarray | None = None
    """Every order of reading is equally fast."""

    def __init__(
        self,
        source: Path,
        files: Iterable[str],
        labels: np.ndarray,
        classes: Sequence[str],
        class_names: Sequence[str],
        *,
        folder: Path = Path(),
    ) -> None:
        """See `ImageStore`; `files` are relative to `folder`."""
        self.source: str | Path = source
        self.labels = labels
        self.classes, self.class_names = list(classes), list(class_names)
        self._folder = folder
        # One block of memory, which worker processes share; they would each copy a million small texts.
        self._files = np.array([os.fsencode(file) for file in files])

    def name(self, index: int) -> str:
        """Path of an image."""
        return str(self._folder / os.fsdecode(self._files[index]))

    def listing(self, indices: np.ndarray) -> Iterator[bytes]:
        """The names of the files, some at a time."""
        for start in range(0, len(indices), LISTED_AT_ONCE):
            yield b"\0".join(self._files[indices[start : start + LISTED_AT_ONCE]].tolist())

    def encoded(self, index: int) -> tuple[bytes, str]:
        """The bytes of an image file, and its suffix.

        Raises:
            UnreadableImage: the file cannot be read.
        """
        path = Path(self.name(index))
        try:
            return read_file(path, BYTES_A_PIXEL * max_pixels()), path.suffix
        except OSError as error:
            raise UnreadableImage(f"{path}: cannot be read ({error.strerror})") from error


class ClassFolders(ImageFiles):
    """The images of a folder with a folder for each class, sorted; or ImageNet's validation images, side by side."""

    def __init__(
        self, folder: Path, root: Path, *, follow_links: bool = False, findings: Findings | None = None
    ) -> None:
        """List the images of one split; see `ImageFolder` for what is an image.

        Args:
            folder: holds one folder for each class, or ImageNet's validation images side by side.
            root: holds the splits, and the files about them.
            follow_links: whether links may lead out of `folder`.
            findings: takes in every class folder that is wrong, instead of an error at the first.

        Raises:
            UserError: no images, a class without any, a link out of the folder, or labels that do not fit.
        """
        found = ImageFolder(folder, follow_links=follow_links)
        files = found.images
        called = None
        if found.folders:
            files = [file for file in files if "/" in file]
            found.left_out["images in no class folder"] += len(found.images) - len(files)
        found.report()
        if found.folders:
            classes = sorted(map(class_name, found.folders))
            place = {name: number for number, name in enumerate(classes)}
            label_of = {name: place[class_name(name)] for name in found.folders}
            labels = np.array([label_of[file.partition("/")[0]] for file in files], dtype=np.int64)
            for problem in _bad_classes(folder, classes, label_of, set(labels.tolist())):
                if findings is None:
                    raise problem
                findings.refuse(problem, "class folder")
            files = [files[index] for index in np.argsort(labels, kind="stable")]
            labels.sort()
        elif files:
            classes, labels, called = flat_labels(root, folder, files)
        else:
            raise UserError(
                f"{folder}: holds neither class folders nor images (it holds {what_is_in(folder)}); "
                "give one folder for each class"
            )
        super().__init__(folder, files, labels, classes, called or class_names(root, classes), folder=folder)


def _bad_classes(folder: Path, classes: list[str], label_of: dict[str, int], used: set[int]) -> Iterator[UserError]:
    """What is wrong with class folders: no images, whose label is not used; two of one name. `classes` are sorted."""
    empty = sorted(name for name, label in label_of.items() if label not in used)
    more = f" ({len(empty)} such class folders)" if len(empty) > 1 else ""
    for name in empty:
        yield UserError(
            f"{folder / name}: holds no image{more} (it holds {what_is_in(folder / name)}); "
            "fill the class folder or remove it"
        )
    for one, other in itertools.pairwise(classes):
        if one == other:
            yield UserError(f"{folder}: has two class folders of the name {short(one)}; put them together")


def folder_names(split: str) -> tuple[str, ...]:
    """Names that the folder of a split may have."""
    return SPLIT_FOLDERS.get(split, (split,))


def find_split_folder(root: Path, split: str) -> Path:
    """The folder of a split.

    Raises:
        UserError: it is not there, or holds images with labels of YOLO, whose folders are no classes.
    """
    if labelled_folders(root):
        raise UserError(
            missing_settings(root)
            or f"{root}: has labels of YOLO, and no folders of classes; detectors train on it, as finetune/botnet50"
        )
    for name in folder_names(split):
        if (root / name).is_dir():
            return root / name
    wanted = "give the folder that holds train/ and val/, with a folder for each class in each"
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; {wanted}")
    names = " or ".join(f"{name}/" for name in folder_names(split))
    raise UserError(f"{root}: holds no {names} (it holds {what_is_in(root)}); {wanted}{split_advice(root)}")


def split_advice(root: Path) -> str:
    """What a message says of a folder that has images of classes and not both splits; nothing for any other folder."""
    have = [any((root / name).is_dir() for name in names) for names in SPLIT_FOLDERS.values()]
    source = root / "train" if have == [True, False] else root
    if all(have) or have == [False, True] or not has_class_folders(source):
        return ""
    command = shlex.join(["botvision", "data", "split", str(source), "--out", f"{root}-split"])
    return f"; or share the images of each class out over both: {command}"


def has_class_folders(root: Path) -> bool:
    """Whether a folder directly inside holds an image."""
    return any(
        file.suffix.lower() in image_suffixes()
        for folder in root.iterdir()
        if folder.is_dir() and not folder.name.startswith(".")
        for file in folder.iterdir()
    )


def has_class_splits(root: Path) -> bool:
    """Whether train/ or val/ holds folders of classes, or is there beside a list of labels of images side by side."""
    splits = [root / name for name in ("train", "val") if (root / name).is_dir()]
    if not splits or labelled_folders(root):
        return False
    return has_flat_labels(root) or any(entry.is_dir() for split in splits for entry in split.iterdir())


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
