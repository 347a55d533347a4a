"""Where exports have their images: the folders of the splits, the images of a folder, and one by its name."""

import logging
import os
from collections.abc import Iterable
from pathlib import Path

from botvision.data.image_files import image_suffixes
from botvision.errors import UserError

logger = logging.getLogger("botvision")

SPLIT_NAMES = {"valid": "val", "validation": "val", "testing": "test", "training": "train"}
"""What tools call the splits."""


def image_files(folder: Path) -> list[Path]:
    """The images in a folder and the folders below it, sorted; hidden files and folders are left out.

    Raises:
        UserError: a folder below is a link, which may lead out of the data set or in circles.
    """
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name[0] != "."]
        for name in folders:
            if (path := Path(place, name)).is_symlink():
                raise UserError(f"{path}: is a link to a folder inside another; put the folder there")
        paths = (Path(place, name) for name in names if name[0] != ".")
        found += [path for path in paths if path.suffix.lower() in image_suffixes() and path.is_file()]
    return sorted(found)


class ImagesByStem:
    """The images directly in folders by their names without suffixes; each folder is listed once."""

    def __init__(self) -> None:
        self._listed: dict[Path, dict[str, list[Path]]] = {}

    def of(self, folder: Path, stem: str) -> list[Path]:
        """The images of a name, whatever their suffix, sorted; none where there is no such folder."""
        return self._in(folder).get(stem, [])

    def within(self, folder: Path) -> list[Path]:
        """All images of a folder."""
        return [path for paths in self._in(folder).values() for path in paths]

    def _in(self, folder: Path) -> dict[str, list[Path]]:
        if folder not in self._listed:
            named: dict[str, list[Path]] = {}
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                if path.suffix.lower() in image_suffixes() and path.name[0] != "." and path.is_file():
                    named.setdefault(path.stem, []).append(path)
            self._listed[folder] = named
        return self._listed[folder]


def warn_of_unlabelled(root: Path, folders: Iterable[Path], labelled: set[Path], images: ImagesByStem) -> None:
    """Warn in one line of the images in some folders that have no annotation file, where each image has one."""
    if without := {image for folder in folders for image in images.within(folder)} - labelled:
        logger.warning(
            "%s: left out %d images without an annotation file, such as %s; to train on them as images without "
            "objects, save them in the labelling tool",
            *(root, len(without), min(without)),
        )


def split_folders(folder: Path) -> dict[str, Path]:
    """The folders of the splits by the names that we have for these; where there are none, all is train."""
    names = {name: SPLIT_NAMES.get(name, name) for name in ("train", "training", "val", "valid", "validation", "test")}
    found = {split: folder / name for name, split in names.items() if (folder / name).is_dir()}
    return found or {"train": folder}
