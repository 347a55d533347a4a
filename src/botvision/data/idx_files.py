"""The four files of MNIST or Fashion-MNIST, in the format "idx", compressed by gzip or not."""

import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
from torch import Tensor
from torchvision.datasets import FashionMNIST
from torchvision.datasets.mnist import read_image_file, read_label_file

from botvision.errors import UserError

PREFIXES = {"train": "train", "val": "t10k"}
FASHION_LABELS = {
    "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",  # train
    "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",  # test
}
"""SHA-256 of Fashion-MNIST's labels: nothing else in the files distinguishes them from MNIST's."""


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
        self._pixels = _read(images_file, read_image_file)
        self.labels = _read(labels_file, read_label_file)  # int64
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

    def encoded(self, index: int) -> tuple[bytes, str]:
        """The image as a file: portable grey map, which is a line of text before the pixels."""
        height, width = self._pixels.shape[1:]
        return b"P5 %d %d 255\n" % (width, height) + self._pixels[index].tobytes(), ".pgm"


def has_idx(root: Path) -> bool:
    """Whether a folder holds such files."""
    return any(root.glob("*-images-idx3-ubyte*"))


def _file(root: Path, split: str, kind: str) -> Path:
    if split not in PREFIXES:
        raise UserError(f"{root}: idx files have the splits {' and '.join(PREFIXES)}, not {split!r}")
    name = f"{PREFIXES[split]}-{kind}-ubyte"
    for file in (root / f"{name}.gz", root / name):
        if file.is_file():
            return file
    raise UserError(f"{root / name}.gz: no such file; the data set is four files, two of each split")


def _read(file: Path, reader: Callable[[str], Tensor]) -> np.ndarray:
    """Read a file by torchvision, which takes no compressed ones."""
    try:
        if file.suffix != ".gz":
            return reader(str(file)).numpy()
        with NamedTemporaryFile() as unpacked:
            unpacked.write(gzip.decompress(file.read_bytes()))
            unpacked.flush()
            return reader(unpacked.name).numpy()
    except Exception as error:  # the readers raise many kinds of error on damaged bytes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{file}: cannot be read as an idx file ({reason}); copy it again") from error
