"""Image shards, WebDataset's format: tar files of images and labels, with a JSON file that says what they hold.

Shards are read at random, not as a stream: order, exact resume and sharing among processes and workers are then those
of every other data set (see `loading`). A whole shard is fetched from a URL when its first image is read, once on each
machine, into a cache, which finally holds the data set.
"""

import hashlib
import os
import tarfile
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import quote

import numpy as np
from filelock import FileLock

from botvision.data.remote import copy_url, is_url
from botvision.data.shard_index import find_shards
from botvision.errors import UserError, printable
from botvision.files import whole_file

LONGEST_LABEL = 20
"""Characters of a label that are read."""


class Members(NamedTuple):
    """Where the images of a shard are."""

    names: np.ndarray  # file names in the archive, as bytes
    offsets: np.ndarray  # int64, in bytes
    sizes: np.ndarray  # int64, in bytes


class ImageShards:
    """The images of a split that `botvision shards` wrote: an `ImageStore` whose groups are the shards."""

    def __init__(self, root: str | Path, split: str) -> None:
        """Read the JSON file, and check that local shards have the size that it says.

        Args:
            root: the folder or URL that holds the shards, or a pattern of some of them: a path or URL with
                alternatives in braces, such as train-{000000..000099}.tar; several patterns are joined by "::".
            split: `train` or `val`.

        Raises:
            UserError: a file is missing or does not fit the others, or the pattern names other shards.
        """
        self.source: str | Path
        self.source, index = find_shards(root, split)
        self.classes, self.class_names = index.classes, index.class_names
        self._files = [(shard.name, shard.bytes) for shard in index.shards]
        counts = [shard.samples for shard in index.shards]
        self._starts = np.cumsum([0, *counts])
        self.labels = np.array([label for shard in index.shards for label in shard.labels], dtype=np.int64)
        self.groups: np.ndarray | None = np.repeat(np.arange(len(counts)), counts)
        self._opened: dict[int, Members] = {}
        self._folder = Path(self.source)
        self._remote = is_url(str(self.source))
        if self._remote:
            # A data set that replaces another at the same URL has another list, and so another folder.
            about = f"{self.source}\n{index.model_dump_json()}"
            self._folder = cache_folder() / hashlib.sha256(about.encode()).hexdigest()[:20]
        else:
            for shard in range(len(counts)):
                self._check_size(shard)

    def name(self, index: int) -> str:
        """The shard, and the image's file name in it, for messages."""
        shard, place = self._find(index)
        return f"{self.source}/{self._files[shard][0]}/{os.fsdecode(self._open(shard).names[place])}"

    def encoded(self, index: int) -> tuple[bytes, str]:
        """The bytes of an image file, and its suffix.

        Raises:
            UserError: the shard cannot be fetched, ends early, or holds other samples than the JSON file says.
        """
        shard, place = self._find(index)
        members = self._open(shard)
        path = self._folder / self._files[shard][0]
        try:
            with path.open("rb") as file:
                file.seek(members.offsets[place])
                return file.read(members.sizes[place]), Path(os.fsdecode(members.names[place])).suffix
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); copy it again") from error

    def _find(self, index: int) -> tuple[int, int]:
        """The shard of an image, and its place in it."""
        shard = int(np.searchsorted(self._starts, index, side="right")) - 1
        return shard, index - int(self._starts[shard])

    def _open(self, shard: int) -> Members:
        """Where the images of a shard are; found when the first one is read, and kept."""
        if shard not in self._opened:
            name, size = self._files[shard]
            if self._remote:
                fetch(f"{self.source}/{quote(name)}", self._folder / name, size)
            self._opened[shard] = self._list(shard)
        return self._opened[shard]

    def _list(self, shard: int) -> Members:
        labels = self.labels[self._starts[shard] : self._starts[shard + 1]]
        return list_members(self._folder / self._files[shard][0], labels.tolist())

    def _check_size(self, shard: int) -> None:
        name, expected = self._files[shard]
        path = self._folder / name
        if not path.is_file():
            raise UserError(f"{path}: no such shard ({len(self._files)} are listed); copy it again")
        size = path.stat().st_size
        if size != expected:
            self._list(shard)  # its message names the sample at which the shard ends
            raise UserError(f"{path}: has {size} bytes, should have {expected}; copy it again")


def cache_folder() -> Path:
    """Where fetched shards are kept: below XDG_CACHE_HOME, ~/.cache by default."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "botvision" / "shards"


def fetch(url: str, target: Path, size: int) -> None:
    """Copy a file from a URL, unless it is there; one process of a machine does, the others wait for it.

    Raises:
        UserError: it cannot be fetched, or does not have ``size`` bytes.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if target.is_file():
            return
        with whole_file(target) as temporary, temporary.open("wb") as file:
            copy_url(url, file, size)


def list_members(path: Path, labels: list[int]) -> Members:
    """Find the images of a shard.

    Args:
        path: the tar file; a sample is a text file `.cls` with the label, and an image of the same name.
        labels: of its samples, as the list of shards says.

    Raises:
        UserError: the shard ends early, or holds other samples.
    """
    images: list[tuple[str, int, int]] = []
    found: list[tuple[str, str]] = []
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if member.size < 0:  # tarfile would read the archive in circles
                    break
                if member.issparse() or not member.isfile():
                    continue
                if member.name.endswith(".cls"):
                    label = archive.extractfile(member).read(LONGEST_LABEL)  # type: ignore[union-attr]
                    found.append((member.name, label.decode()))
                else:
                    images.append((member.name, member.offset_data, member.size))
    except Exception:  # tarfile raises many kinds of error on damaged bytes
        pass  # what was read before the error shows where the shard ends
    size = path.stat().st_size
    images = [image for image in images if image[1] + image[2] <= size]
    whole = min(len(images), len(found))
    if whole < len(labels):
        last = f"after sample {images[whole - 1][0]}" if whole else "before its first sample"
        raise UserError(f"{path}: ends early, {last} ({whole} of {len(labels)}); copy or write it again")
    if len(images) != len(labels) or len(found) != len(labels):
        raise UserError(f"{path}: holds {len(images)} images, the list of shards says {len(labels)}; copy it again")
    names, offsets, sizes = zip(*images, strict=True) if images else ((), (), ())
    for image, (name, label), expected in zip(names, found, labels, strict=True):
        if PurePosixPath(image).stem != PurePosixPath(name).stem or label != str(expected):
            raise UserError(
                f"{path}: sample {image} has label {printable(label)} in {name}, the list of shards says {expected}"
            )
    return Members(np.array([os.fsencode(name) for name in names]), np.array(offsets), np.array(sizes))
