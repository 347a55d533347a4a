"""Labelled images of any layout as a data set for classification."""

from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2.functional import pil_to_tensor

from botvision.data.class_folders import ClassFolders, find_split_folder
from botvision.data.digests import digest
from botvision.data.findings import Findings
from botvision.data.idx_files import IdxFiles, has_idx
from botvision.data.images import UnreadableImage, decode_channels, decode_image
from botvision.data.shard_index import has_shards
from botvision.data.shards import ImageShards
from botvision.errors import UserError, first_few, short

MIXED_GROUPS = 16
"""Number of shards from which images that are read one after the other come."""
NAMED_IN_MESSAGES = 5

Transform = Callable[[Any], Any]


class ImageStore(Protocol):
    """Where labelled images are stored: `ClassFolders`, `IdxFiles` and `ImageShards`."""

    source: str | Path
    """The folder, file or URL, for messages."""
    classes: list[str]
    """Label k is `classes[k]`; sorted, unless they are numbers."""
    class_names: list[str]
    """Names of the classes for people to read."""
    labels: np.ndarray
    """int64 (N,), indices of `classes`."""
    groups: np.ndarray | None
    """Int (N,): images of one group are read faster one after the other; None where it makes no difference."""

    def name(self, index: int) -> str:
        """The name of an image, for messages."""

    def listing(self, indices: np.ndarray) -> Iterator[bytes]:
        """What tells images from others without reading their files, such as the names, in pieces."""

    def encoded(self, index: int) -> tuple[bytes, str]:
        """The bytes of an image file, and its suffix."""


class ImageClasses(Dataset):
    """A split of a data set for classification.

    An item is `(image, {"label": int, "path": str})`, the image uint8 RGB (3, H, W), or as stored (`channels`); for
    an image that cannot be read it is `(None, {"path": str, "reason": str})`, so that a bad file does not end a run.

    Attributes:
        source, classes, class_names, labels: as in `ImageStore`, of the chosen images.
        transform: makes a tensor, or a tuple with several views, of a Pillow image in RGB, or of an image as stored,
            float32 (channels, H, W); None keeps all pixels.
        channels: of images that are read as stored; None for RGB. Both can be set at any time.
    """

    def __init__(
        self,
        images: ImageStore,
        transform: Transform | None = None,
        *,
        limit: int | None = None,
        classes: int | None = None,
        channels: int | None = None,
    ) -> None:
        """Choose images.

        Args:
            images: where they are stored.
            transform: see above.
            limit: largest number of images: the first ones of every class, as evenly as the classes allow.
            classes: number of classes to take, the first ones.
            channels: see above.

        Raises:
            UserError: fewer classes than asked for, or no images.
        """
        if classes is not None and classes > len(images.classes):
            raise UserError(f"{images.source}: has {len(images.classes)} classes, not {classes}")
        self.images = images
        self.transform, self.channels = transform, channels
        self.source = images.source
        self.classes = images.classes[:classes]
        self.class_names = images.class_names[:classes]
        self._indices = _first_of_each_class(images.labels, len(self.classes), limit)
        self.labels = images.labels[self._indices]
        if not len(self.labels):
            raise UserError(f"{self.source}: holds no image")

    def __len__(self) -> int:
        """Number of images."""
        return len(self._indices)

    @cached_property
    def digest(self) -> str:
        """The number of images, and hexadecimal digits that are others where files, classes or labels are."""
        labels = repr(self.classes).encode(), self.labels.tobytes()
        return digest(len(self), chain(labels, self.images.listing(self._indices)))

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        """The image, transformed, and its label; or why there is none.

        Raises:
            UserError: a shard is damaged or cannot be fetched.
        """
        stored = int(self._indices[index])
        name = self.images.name(stored)
        try:
            encoded, _ = self.images.encoded(stored)
            image = self.decode(encoded, name)
        except UnreadableImage as error:  # its message begins with the name, which is given beside it
            return None, {"path": name, "reason": str(error).removeprefix(f"{name}: ")}
        if self.transform is not None:
            image = self.transform(image)
        elif isinstance(image, Image):
            image = pil_to_tensor(image)
        return image, {"label": int(self.labels[index]), "path": name}

    def decode(self, encoded: bytes, name: str) -> Image | Tensor:
        """The bytes of an image file as the transform takes it.

        Raises:
            UnreadableImage: they are damaged, or of another number of channels.
        """
        if self.channels is None:
            return decode_image(encoded, name)
        return decode_channels(encoded, name, self.channels)

    def epoch_order(self, generator: torch.Generator) -> Tensor:
        """A random order of the images: int64 (N,).

        Shards come in a random order, and each image moves back by a random number of places, at most as many as
        `MIXED_GROUPS` shards hold: images are drawn from few shards at a time, which are fetched one by one.
        """
        if self.images.groups is None:
            return torch.randperm(len(self), generator=generator)
        groups = torch.from_numpy(self.images.groups[self._indices])
        number = int(groups.max()) + 1
        by_group = torch.argsort(torch.randperm(number, generator=generator)[groups], stable=True)
        delay = torch.rand(len(self), generator=generator, dtype=torch.float64) * MIXED_GROUPS * len(self) / number
        return by_group[torch.argsort(torch.arange(len(self)) + delay, stable=True)]


def open_classes(
    root: str | Path,
    split: str,
    transform: Transform | None = None,
    *,
    limit: int | None = None,
    classes: int | None = None,
    follow_links: bool = False,
    findings: Findings | None = None,
) -> ImageClasses:
    """Open a split of a data set in any of these layouts:

    - class folders in train/ and in val/, validation/, valid/ or test/ (ImageNet, CIFAR exports);
    - the same with ImageNet's validation images side by side, and the official development kit, val.txt or
      LOC_val_solution.csv beside the splits;
    - the four idx files of MNIST or Fashion-MNIST;
    - shards that `botvision shards` wrote, in a folder or at a URL, or a pattern of them; see `ImageShards`.

    Args:
        root: folder, URL or pattern.
        split: `train`, `val`, or the name of another folder or of other shards.
        transform, limit, classes: see `ImageClasses`.
        follow_links: whether links in class folders may lead to files elsewhere.
        findings: takes in every class folder that is wrong, instead of an error at the first.

    Raises:
        UserError: there is no such data set, or something is wrong with it.
    """
    images = open_images(root, split, follow_links=follow_links, findings=findings)
    return ImageClasses(images, transform, limit=limit, classes=classes)


def open_images(
    root: str | Path, split: str, *, follow_links: bool = False, findings: Findings | None = None
) -> ImageStore:
    """Where the images of a split are stored; see `open_classes`."""
    if has_shards(root):
        return ImageShards(root, split)
    root = Path(root)
    if has_idx(root):
        return IdxFiles(root, split)
    return ClassFolders(find_split_folder(root, split), root, follow_links=follow_links, findings=findings)


def check_same_classes(train: ImageClasses, val: ImageClasses) -> None:
    """Refuse splits with different classes, whose labels would not mean the same.

    Raises:
        UserError: names the classes that one of them does not have.
    """
    if train.classes == val.classes:
        return
    lacks, adds = sorted(set(train.classes) - set(val.classes)), sorted(set(val.classes) - set(train.classes))
    words = [
        f"{what} {first_few(list(map(short, names)), NAMED_IN_MESSAGES)}"
        for what, names in (("lacks", lacks), ("adds", adds))
        if names
    ]
    difference = " and ".join(words) or "has them in another order"
    raise UserError(f"{val.source}: its classes are not those of {train.source}: it {difference}")


def _first_of_each_class(labels: np.ndarray, classes: int, limit: int | None) -> np.ndarray:
    """Which images to take, in order: int64 indices."""
    chosen = np.flatnonzero(labels < classes)
    if limit is None or limit >= len(chosen):
        return chosen
    by_class = np.argsort(labels[chosen], kind="stable")
    sizes = np.bincount(labels[chosen], minlength=classes)
    place_in_class = np.arange(len(chosen)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    first = np.argsort(place_in_class, kind="stable")[:limit]  # the first of every class, then the second, and so on
    return np.sort(chosen[by_class[first]])
