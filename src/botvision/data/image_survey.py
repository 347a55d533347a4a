"""A look at every image of a data set: which cannot be read, which are there twice, and the mean of their pixels."""

import hashlib
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import torch
from torch import Tensor

from botvision.data.findings import Effect, Findings
from botvision.errors import UserError

MOST_THREADS = 8


class Pixels(NamedTuple):
    """What is kept of an image: a hash of its pixels, and the sums of each channel's values and squares."""

    digest: bytes
    shape: tuple[int, int, int]
    sums: Tensor
    """float64 (2, C)."""


class ImageSurvey:
    """What the images of a data set hold.

    Args:
        findings: takes in images that cannot be read, or whose pixels another image has too.
        unreadable: what follows in training from an image that cannot be read.
    """

    def __init__(self, findings: Findings, unreadable: Effect) -> None:
        self.findings = findings
        self.unreadable = unreadable
        self._first: dict[bytes, tuple[str, str]] = {}
        self._sums: dict[int, Tensor] = {}
        self._counts: dict[int, int] = {}

    def look(
        self,
        split: str,
        names: Sequence[str],
        read: Callable[[int], Tensor],
        on_image: Callable[[int, int], None],
    ) -> int:
        """Read the images of a split; gives the number of those that cannot be read.

        Args:
            split: its name.
            names: of the images, for messages.
            read: gives an image (C, H, W), or raises a UserError.
            on_image: told how many images are done, of how many.
        """

        def look_at(index: int) -> Pixels | UserError:
            try:
                return summed(read(index))
            except UserError as error:
                return error

        unreadable = 0
        # Outside of the threads, whose own changes of the filter would cross each other.
        with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as of:
            for index, found in enumerate(of.map(look_at, range(len(names)))):
                if isinstance(found, UserError):
                    unreadable += 1
                    self.findings.add(self.unreadable, "image cannot be read", "", str(found))
                else:
                    self._take_in(split, names[index], found)
                on_image(index + 1, len(names))
        return unreadable

    def _take_in(self, split: str, name: str, image: Pixels) -> None:
        channels, height, width = image.shape
        self._sums[channels] = self._sums.get(channels, 0) + image.sums
        self._counts[channels] = self._counts.get(channels, 0) + height * width
        first_split, first = self._first.setdefault(image.digest, (split, name))
        if (first_split, first) == (split, name):
            return
        if first_split == split:
            self.findings.add("noted", "image twice in a split", name, f"has the pixels of {first}, also in {split}")
        else:
            self.findings.add(
                "noted",
                f"image in {first_split} and in {split}",
                name,
                f"has the pixels of {first} in {first_split}: scores on {split} do not say what new images would",
            )

    def statistics(self) -> list[dict[str, Any]]:
        """For each number of channels that images have: "channels", "pixels", "mean" and "std" of each channel."""
        found = []
        for channels, (total, squares) in self._sums.items():
            mean = total / self._counts[channels]
            deviation = (squares / self._counts[channels] - mean.square()).clamp(min=0).sqrt()
            rounded = {"mean": mean, "std": deviation}
            found.append(
                {"channels": channels, "pixels": self._counts[channels]}
                | {name: [float(f"{value:.6g}") for value in values.tolist()] for name, values in rounded.items()}
            )
        return found


def summed(image: Tensor) -> Pixels:
    """What is kept of an image (C, H, W)."""
    channels, height, width = image.shape
    image = image.contiguous()
    digest = hashlib.blake2b(image.numpy().data, digest_size=16, key=repr(tuple(image.shape)).encode()).digest()
    values = image.reshape(channels, -1).double()
    return Pixels(digest, (channels, height, width), torch.stack([values.sum(dim=1), values.square().sum(dim=1)]))
