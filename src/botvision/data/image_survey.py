"""A look at every image of a data set: which cannot be read, which are there twice, and the mean of their pixels."""

import hashlib
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from torch import Tensor

from botvision.data.findings import Effect, Findings
from botvision.data.pixel_statistics import Moments, moments_of
from botvision.errors import UserError

MOST_THREADS = 8


class Pixels(NamedTuple):
    """What is kept of an image: a hash of its pixels, and what :class:`Moments` takes in of it."""

    digest: bytes
    moments: tuple[int, Tensor, Tensor]


class ImageSurvey:
    """What the images of a data set hold.

    Args:
        findings: takes in images that cannot be read, or whose pixels another image has too.
        unreadable: what follows in training from an image that cannot be read.

    Attributes:
        moments: of the pixels, by split and number of channels.
    """

    def __init__(self, findings: Findings, unreadable: Effect) -> None:
        self.findings = findings
        self.unreadable = unreadable
        self._first: dict[bytes, tuple[str, str]] = {}
        self.moments: dict[tuple[str, int], Moments] = {}

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
        self.moments.setdefault((split, len(image.moments[1])), Moments()).add(*image.moments)
        if image.digest not in self._first:
            self._first[image.digest] = split, name
            return
        first_split, first = self._first[image.digest]
        if (first_split, first) == (split, name):
            problem = f"is the file of several images of {split}; keep one of them, with the annotations of all"
            self.findings.add("noted", "image twice in a split", name, problem)
        elif first_split == split:
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
        found: dict[int, Moments] = {}
        for (_, channels), own in self.moments.items():
            found.setdefault(channels, Moments()).add_all(own)
        return [
            {"channels": channels, "pixels": one.count}
            | {name: [float(f"{value:.6g}") for value in getattr(one, name).tolist()] for name in ("mean", "std")}
            for channels, one in found.items()
        ]


def summed(image: Tensor) -> Pixels:
    """What is kept of an image (C, H, W)."""
    image = image.contiguous()
    digest = hashlib.blake2b(image.numpy().data, digest_size=16, key=repr(tuple(image.shape)).encode()).digest()
    return Pixels(digest, moments_of(image))
