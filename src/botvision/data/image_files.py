"""Which files are images: the formats that are opened, and the images of a folder by one rule."""

import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from PIL import Image

from botvision.configuration import FieldError
from botvision.errors import UserError, first_few
from botvision.files import what_is_in

logger = logging.getLogger("botvision")

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow's names of the formats that are opened: no documents such as EPS, for which Pillow starts another program."""
ARRAY_SUFFIX = ".npy"
"""Of NumPy's arrays, which are images too, see :mod:`botvision.data.stored`."""
REASONS_NAMED = 6


@cache
def image_formats() -> tuple[str, ...]:
    """Those of `FORMATS` that Pillow can open here; it opens MPO as a kind of JPEG."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@cache
def image_suffixes() -> frozenset[str]:
    """The suffixes that Pillow registers for these formats, such as ".jfif"."""
    known = (*image_formats(), "MPO")
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in known)


class ImageFolder:
    """The images in a folder and the folders below it.

    An image is a regular file with one of `image_suffixes`, or .npy where no file has one of these. Files and folders
    whose names start with "." are hidden and left out. A class folder may be a link to a folder, an image a link to a
    file; both must lead to a place inside the folder unless `follow_links` is true. Links to folders further below are
    refused, as they may go in circles.

    Attributes:
        images: paths relative to the folder, sorted.
        folders: names of the folders directly inside, sorted.
        left_out: how many files and hidden folders are left out, by reason.

    Raises:
        UserError: a link that is refused.
    """

    def __init__(self, folder: Path, *, follow_links: bool = False) -> None:
        self.folder = folder
        self.follow_links = follow_links
        self.images: list[str] = []
        self.folders: list[str] = []
        self.left_out: Counter[str] = Counter()
        self._root = Path(os.path.realpath(folder))
        arrays: list[str] = []
        below = [""]
        while below:
            prefix = below.pop()
            for entry in self._visible(folder / prefix):
                if entry.is_dir():
                    if prefix and entry.is_symlink():
                        raise UserError(f"{entry.path}: is a link to a folder inside another; put the folder there")
                    below.append(f"{prefix}{entry.name}/")
                    if not prefix:
                        self.folders.append(entry.name)
                elif (reason := _why_left_out(entry)) == ARRAY_SUFFIX and entry.is_file():
                    arrays.append(prefix + entry.name)
                elif reason:
                    self.left_out[reason] += 1
                else:
                    self.images.append(prefix + entry.name)
        if self.images:
            self.left_out[ARRAY_SUFFIX] += len(arrays)
        else:
            self.images = arrays
        self.images.sort()
        self.folders.sort()

    def report(self) -> None:
        """Say in one line how many files are left out, and why."""
        reasons = [f"{count} {reason}" for reason, count in (+self.left_out).most_common()]
        if reasons:
            total = self.left_out.total()
            logger.warning("%s: left out %d files: %s", self.folder, total, first_few(reasons, REASONS_NAMED))

    def _visible(self, folder: Path) -> Iterator[os.DirEntry[str]]:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    self.left_out["hidden"] += 1
                elif entry.is_symlink() and not os.path.exists(entry.path):  # noqa: PTH110 (False for a circle)
                    self.left_out["links to nothing"] += 1
                else:
                    if entry.is_symlink() and not self.follow_links:
                        check_inside(Path(entry.path), self._root)
                    yield entry


def _why_left_out(entry: os.DirEntry[str]) -> str | None:
    suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 (a million of Path objects are slow)
    if suffix not in image_suffixes():
        return suffix or "without a suffix"
    return None if entry.is_file() else "pipes, sockets or devices"


def find_images(paths: Iterable[Path], *, follow_links: bool = False) -> list[Path]:
    """The images that are meant: files as they are, folders as every image in them; see `ImageFolder`.

    Raises:
        UserError: a path that does not exist or is no regular file, a folder without an image, or a refused link.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = ImageFolder(path, follow_links=follow_links)
            inside.report()
            if not inside.images:
                suffixes = ", ".join(sorted(image_suffixes()))
                raise UserError(f"{path} holds no image (it holds {what_is_in(path)}); images end in {suffixes}")
            found += [path / name for name in inside.images]
        elif path.is_file():
            found.append(path)
        else:
            raise UserError(f"image {path} {'is no regular file' if path.exists() else 'does not exist'}")
    return found


def check_inside(path: Path, root: Path) -> None:
    """Refuse a link that leads out of an image folder.

    Raises:
        FieldError: of follow_links; names the link.
    """
    if not Path(os.path.realpath(path)).is_relative_to(root):
        what = "folder" if path.is_dir() else "file"
        raise FieldError(
            ("follow_links",),
            f"should be true to read {path}, a link to a place outside the image folder {root}; "
            f"or put the {what} itself there",
        )
