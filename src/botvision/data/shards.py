"""Image shards, WebDataset's format: tar files of images and labels, with a JSON file that says what they hold.

Shards are read at random, not as a stream: order, exact resume and sharing among processes and workers are then those
of every other data set (see `loading`). A whole shard is fetched from a URL when its first image is read, once on each
machine, into a cache, see `shard_cache`.
"""

import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

import numpy as np

from botvision.data.remote import PATIENT, Patience, is_url, url_in
from botvision.data.shard_cache import fetch, folder_for
from botvision.data.shard_index import find_shards
from botvision.errors import UserError, printable

LONGEST_LABEL = 20
"""Characters of a label that are read."""


class Members(NamedTuple):
    """Where the images of a shard are."""

    names: np.ndarray  # file names in the archive, as bytes
    offsets: np.ndarray  # int64, in bytes
    sizes: np.ndarray  # int64, in bytes


class ImageShards:
    """The images of a split that `botvision shards` wrote: an `ImageStore` whose groups are the shards."""

    def __init__(self, root: str | Path, split: str, *, patience: Patience = PATIENT) -> None:
        """Read the JSON file, and check that local shards have the size that it says.

        Args:
            root: the folder or URL that holds the shards, or a pattern of some of them: a path or URL with
                alternatives in braces, such as train-{000000..000099}.tar; several patterns are joined by "::".
            split: `train` or `val`.
            patience: of shards at a URL, see `copy_url`.

        Raises:
            UserError: a file is missing or does not fit the others, or the pattern names other shards.
        """
        self.source: str | Path
        self.source, index = find_shards(root, split, patience)
        self.classes, self.class_names = index.classes, index.class_names
        self._files = [(shard.name, shard.bytes, shard.sha256) for shard in index.shards]
        counts = [shard.samples for shard in index.shards]
        self._starts = np.cumsum([0, *counts])
        self.labels = np.array([label for shard in index.shards for label in shard.labels], dtype=np.int64)
        self.groups: np.ndarray | None = np.repeat(np.arange(len(counts)), counts)
        self._opened: dict[int, Members] = {}
        self._folder = Path(self.source)
        self._patience = patience
        self._remote = is_url(str(self.source))
        if self._remote:
            sizes = [shard.bytes for shard in index.shards]
            self._folder = folder_for(str(self.source), index.model_dump_json(), sizes)
        else:
            for shard in range(len(counts)):
                self._check_size(shard)

    def name(self, index: int) -> str:
        """The shard, and the image's file name in it, for messages."""
        shard, place = self._find(index)
        return f"{self.source}/{self._files[shard][0]}/{os.fsdecode(self._open(shard).names[place])}"

    def listing(self, indices: np.ndarray) -> Iterator[bytes]:
        """The names, sizes and checksums of all shards, and the places in them."""
        yield repr(self._files).encode()
        yield indices.tobytes()

    def encoded(self, index: int) -> tuple[bytes, str]:
        """The bytes of an image file, and its suffix.

        Raises:
            UserError: the shard cannot be fetched, ends early, or holds other samples than the JSON file says.
        """
        shard, place = self._find(index)
        members = self._open(shard)
        with self._file(shard) as file:
            file.seek(members.offsets[place])
            return file.read(members.sizes[place]), Path(os.fsdecode(members.names[place])).suffix

    def _find(self, index: int) -> tuple[int, int]:
        """The shard of an image, and its place in it."""
        shard = int(np.searchsorted(self._starts, index, side="right")) - 1
        return shard, index - int(self._starts[shard])

    def _open(self, shard: int) -> Members:
        """Where the images of a shard are; found when the first one is read, and kept."""
        if shard not in self._opened:
            labels = self.labels[self._starts[shard] : self._starts[shard + 1]].tolist()
            try:
                with self._file(shard) as file:
                    self._opened[shard] = list_members(file, self._place(shard), labels)
            except UserError:
                if self._remote:  # without a checksum, a damaged shard may have been kept
                    (self._folder / self._files[shard][0]).unlink(missing_ok=True)
                raise
        return self._opened[shard]

    @contextmanager
    def _file(self, shard: int) -> Iterator[BinaryIO]:
        """Opens a shard; one at a URL is fetched first, also where it was removed to make room for others."""
        path = self._folder / self._files[shard][0]
        try:
            with self._fetched(shard) if self._remote else path.open("rb") as file:
                yield file
        except OSError as error:
            mend = "remove it, so that it is fetched again" if self._remote else "copy it again"
            raise UserError(f"{path}: cannot be read ({error.strerror}); {mend}") from error

    def _fetched(self, shard: int) -> BinaryIO:
        name, size, sha256 = self._files[shard]
        if shard in self._opened:  # and was checked then
            with suppress(FileNotFoundError):
                return (self._folder / name).open("rb")
        return fetch(self._place(shard), self._folder / name, size, sha256, self._patience)

    def _place(self, shard: int) -> str:
        """The path or URL of a shard, for messages."""
        name = self._files[shard][0]
        return url_in(str(self.source), name) if self._remote else f"{self.source}/{name}"

    def _check_size(self, shard: int) -> None:
        name, expected, _ = self._files[shard]
        path = self._folder / name
        if not path.is_file():
            raise UserError(f"{path}: no such shard ({len(self._files)} are listed); copy it again")
        size = path.stat().st_size
        if size != expected:
            self._open(shard)  # its message names the sample at which the shard ends
            raise UserError(f"{path}: has {size} bytes, should have {expected}; copy it again")


def list_members(file: BinaryIO, place: str, labels: list[int]) -> Members:
    """Find the images of a shard.

    Args:
        file: the tar file; a sample is a text file `.cls` with the label, and an image of the same name.
        place: its path or URL, for messages.
        labels: of its samples, as the list of shards says.

    Raises:
        UserError: the shard ends early, or holds other samples.
    """
    images: list[tuple[str, int, int]] = []
    found: list[tuple[str, str]] = []
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
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
    size = file.seek(0, os.SEEK_END)
    images = [image for image in images if image[1] + image[2] <= size]
    whole = min(len(images), len(found))
    if whole < len(labels):
        last = f"after sample {images[whole - 1][0]}" if whole else "before its first sample"
        raise UserError(f"{place}: ends early, {last} ({whole} of {len(labels)}); copy or write it again")
    if len(images) != len(labels) or len(found) != len(labels):
        raise UserError(f"{place}: holds {len(images)} images, the list of shards says {len(labels)}; copy it again")
    names, offsets, sizes = zip(*images, strict=True) if images else ((), (), ())
    for image, (name, label), expected in zip(names, found, labels, strict=True):
        if PurePosixPath(image).stem != PurePosixPath(name).stem or label != str(expected):
            raise UserError(
                f"{place}: sample {image} has label {printable(label)} in {name}, the list of shards says {expected}"
            )
    return Members(np.array([os.fsencode(name) for name in names]), np.array(offsets), np.array(sizes))
