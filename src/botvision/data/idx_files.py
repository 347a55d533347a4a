"""The four files of MNIST and of Fashion-MNIST, in their own format "idx", packed by gzip or not."""

import gzip
import hashlib
import math
import zlib
from pathlib import Path

import numpy as np

from botvision.errors import UserError

PREFIXES = {"train": "train", "val": "t10k"}
UNSIGNED_BYTES = 8
FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
"""What the classes of Fashion-MNIST are called (its README)."""
FASHION_LABELS = {
    "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",  # train
    "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",  # test
}
"""SHA-256 of Fashion-MNIST's labels, which nothing else tells from MNIST's."""


class IdxFiles:
    """The grey images of a split, with classes "0" to "9".

    Attributes are those of `ClassFolders`.
    """

    groups: np.ndarray | None = None

    def __init__(self, root: Path, split: str) -> None:
        """Read the whole split; see `find_idx`.

        Raises:
            UserError: a file is missing, damaged, or does not fit the other.
        """
        images_file, labels_file = (_file(root, split, kind) for kind in ("images-idx3", "labels-idx1"))
        self.source: str | Path = images_file
        self._pixels = _read(images_file, 3)
        labels = _read(labels_file, 1)
        if len(labels) != len(self._pixels):
            raise UserError(
                f"{labels_file}: holds {len(labels)} labels for {len(self._pixels)} images of {images_file}"
            )
        if labels.max(initial=0) > 9:
            raise UserError(f"{labels_file}: label {np.argmax(labels > 9)} is {labels[labels > 9][0]}, above 9")
        self.labels = labels.astype(np.int64)
        self.classes = [str(digit) for digit in range(10)]
        fashion = hashlib.sha256(labels.tobytes()).hexdigest() in FASHION_LABELS
        self.class_names = list(FASHION) if fashion else self.classes

    def name(self, index: int) -> str:
        """The file, and which of its images."""
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


def _read(file: Path, axes: int) -> np.ndarray:
    """An array of unsigned bytes with so many axes: magic number, the length of each axis, the bytes."""
    try:
        content = file.read_bytes()
        content = gzip.decompress(content) if file.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{file}: cannot be read ({error}); copy it again") from error
    start = 4 + 4 * axes
    if len(content) < start or content[:4] != bytes([0, 0, UNSIGNED_BYTES, axes]):
        raise UserError(f"{file}: is no idx file of bytes with {axes} axes")
    shape = np.frombuffer(content, ">u4", axes, offset=4).tolist()
    if len(content) - start != math.prod(shape):
        raise UserError(f"{file}: holds {len(content) - start} bytes for a shape of {shape}; copy it again")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
