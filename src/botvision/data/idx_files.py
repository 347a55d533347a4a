"""The four files of MNIST or Fashion-MNIST, in the format "idx", compressed by gzip or not."""

import gzip
import hashlib
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torchvision.datasets import FashionMNIST

from botvision.errors import UserError, short
from botvision.files import what_is_in

PREFIXES = {"train": "train", "val": "t10k"}
FASHION_LABELS = {
    "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",  # train
    "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",  # test
}
"""SHA-256 of Fashion-MNIST's labels: nothing else in the files distinguishes them from MNIST's."""
UBYTE = 8
"""The format's number of the type of its values."""
LARGEST = 2**30
"""Bytes of the largest file that is read; the largest known one, EMNIST, has half of it."""


class IdxFiles:
    """The grey images of a split, with classes "0" to "9": an `ImageStore`."""

    groups: np.ndarray | None = None

    def __init__(self, root: Path, split: str) -> None:
        """Read the whole split from the folder that holds the four files.

        Raises:
            UserError: a file is missing, damaged, or does not fit the other.
        """
        images_file, labels_file = _file(root, split, "images-idx3"), _file(root, split, "labels-idx1")
        self.source: str | Path = images_file
        self._pixels = _read(images_file, 3)
        self.labels = _read(labels_file, 1).astype(np.int64)
        if len(self.labels) != len(self._pixels):
            raise UserError(
                f"{labels_file}: holds {len(self.labels)} labels for {len(self._pixels)} images of {images_file}"
            )
        if self.labels.max(initial=0) > 9:
            place = np.argmax(self.labels > 9)
            raise UserError(f"{labels_file}: label {place} is {self.labels[place]}, above 9")
        self.classes = [str(digit) for digit in range(10)]
        fashion = hashlib.sha256(self.labels.astype(np.uint8).tobytes()).hexdigest() in FASHION_LABELS
        self.class_names = list(FashionMNIST.classes) if fashion else self.classes

    def name(self, index: int) -> str:
        """The file, and the number of the image in it, for messages."""
        return f"{self.source}/{index}"

    def listing(self, indices: np.ndarray) -> Iterator[bytes]:
        """The pixels, which are in memory."""
        return (self._pixels[index].tobytes() for index in indices)

    def encoded(self, index: int) -> tuple[bytes, str]:
        """The image as a file: portable grey map, which is a line of text before the pixels."""
        height, width = self._pixels.shape[1:]
        return b"P5 %d %d 255\n" % (width, height) + self._pixels[index].tobytes(), ".pgm"


def has_idx(root: Path) -> bool:
    """Whether a folder holds such files."""
    return any(root.glob("*-images-idx3-ubyte*"))


def _file(root: Path, split: str, kind: str) -> Path:
    if split not in PREFIXES:
        raise UserError(f"{root}: idx files have the splits {' and '.join(PREFIXES)}, not {short(split)}")
    name = f"{PREFIXES[split]}-{kind}-ubyte"
    for file in (root / f"{name}.gz", root / name):
        if file.is_file():
            return file
    raise UserError(
        f"{root}: holds no {name}.gz (it holds {what_is_in(root)}); the data set is four files, two a split"
    )


def _read(file: Path, axes: int) -> np.ndarray:
    """The array in a file, uint8: no more is read than the header says, and no header may say more than `LARGEST`."""
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            header = stream.read(4 + 4 * axes)
            if header[:4] != bytes([0, 0, UBYTE, axes]) or len(header) < 4 + 4 * axes:
                raise ValueError(f"it does not begin as one with {axes} axes of bytes does")
            shape = struct.unpack(f">{axes}I", header[4:])
            size = math.prod(shape)
            if size > LARGEST:
                raise ValueError(f"its header says {size} bytes, more than {LARGEST}")
            content = stream.read(size + 1)
            if len(content) != size:
                fewer = "fewer" if len(content) < size else "more"
                raise ValueError(f"it holds {fewer} than the {size} bytes of its header")
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise UserError(f"{file}: cannot be read as an idx file ({error}); copy it again") from error
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)
