"""The mean and deviation of each channel of a data set's images, kept in its folder for training."""

import json
import logging
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from botvision.configuration import Config, Count, FieldError, Positive
from botvision.data.stored import stored_channels
from botvision.errors import UserError
from botvision.files import read_file, write_text

logger = logging.getLogger("botvision")

STATISTICS_FILE = "pixels.json"
LARGEST_FILE = 2**20
"""Bytes of it."""


class PixelStatistics(Config):
    """The content of `STATISTICS_FILE`. Its being there says that the images are read as stored, not as RGB."""

    split: str
    """Whose images were measured."""
    images: Count
    """How many."""
    channels: Count
    """Of each image."""
    mean: Annotated[tuple[float, ...], Field(min_length=1)]
    """Of each channel, in the unit of the files."""
    std: Annotated[tuple[Positive, ...], Field(min_length=1)]
    """Standard deviation of each channel."""

    @model_validator(mode="after")
    def check_lengths(self) -> Self:
        """One number for each channel."""
        for name in ("mean", "std"):
            if len(getattr(self, name)) != self.channels:
                raise FieldError((name,), f"should have {self.channels} numbers, got {len(getattr(self, name))}")
        return self


class Moments:
    """Mean and squared deviations of each channel, image by image, in float64 (Chan, Golub and LeVeque 1979).

    Attributes:
        count: pixels.
        images: how many.
        mean: (C,).
    """

    def __init__(self) -> None:
        self.count, self.images = 0, 0
        self.mean, self._squares = torch.zeros(()), torch.zeros(())

    def add(self, count: int, mean: Tensor, squares: Tensor, images: int = 1) -> None:
        """Take in an image: its pixels, and of each channel the mean and the sum of squared deviations from it."""
        total, apart = self.count + count, mean - self.mean
        self._squares = self._squares + squares + apart.square() * (self.count * count / total)
        self.mean = self.mean + apart * (count / total)
        self.count, self.images = total, self.images + images

    def add_all(self, other: "Moments") -> None:
        """Take in all images of others."""
        self.add(other.count, other.mean, other._squares, other.images)

    @property
    def std(self) -> Tensor:
        """Standard deviation of each channel, (C,)."""
        return (self._squares / self.count).sqrt()


def moments_of(image: Tensor) -> tuple[int, Tensor, Tensor]:
    """What `Moments` takes in of an image (C, H, W)."""
    values = image.reshape(len(image), -1).double()
    mean = values.mean(dim=1)
    return values.shape[1], mean, (values - mean[:, None]).square().sum(dim=1)


def common_channels(files: Iterable[Path], pictures: int | None = None) -> int | None:
    """The channels of images that are read as stored, from their headers; None of pictures, see `stored_channels`.

    Args:
        files: those whose header cannot be read are passed over.
        pictures: count pictures too as images of so many channels.

    Raises:
        UserError: two images differ; both are named.
    """
    first: tuple[Path, int | None] | None = None
    for file in files:
        try:
            with warnings.catch_warnings(action="ignore"):  # Pillow's, of odd tags
                channels = stored_channels(file) or pictures
        except Exception:  # whoever reads the image says what is wrong with it
            continue
        first = first or (file, channels)
        if channels != first[1]:
            raise UserError(
                f"{file} {described(channels)}, and {first[0]} {described(first[1])}; "
                "the images of a data set should have the same channels"
            )
    return first[1] if first else None


def described(channels: int | None) -> str:
    """What an image is, for a message."""
    return "is a picture, read as RGB" if channels is None else f"has {channels} channels"


def read_statistics(folder: Path, split: str) -> PixelStatistics | None:
    """What `botvision data check` kept in the folder of a data set; None where it kept nothing.

    Raises:
        UserError: the file cannot be read, or is of another split.
    """
    file = folder / STATISTICS_FILE
    if not file.is_file():
        return None
    try:
        content = json.loads(read_file(file, LARGEST_FILE))
        found = PixelStatistics(**content)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{file}: {' '.join(str(error).split())}; botvision data check writes it again") from error
    if found.split != split:
        raise UserError(f"{file} is of the split {found.split}, and should be of {split}: botvision data check")
    return found


def write_statistics(folder: Path, split: str, moments: Moments) -> Path | None:
    """Keep what was measured on a split in a file of its data set; None, and a warning, where it cannot be written.

    Raises:
        FieldError: a channel has one value in all images, by which nothing can be divided.
    """
    mean, std = tuple(moments.mean.tolist()), tuple(moments.std.tolist())
    found = PixelStatistics(split=split, images=moments.images, channels=len(mean), mean=mean, std=std)
    file = folder / STATISTICS_FILE
    try:
        if folder.is_dir():  # and not a URL
            write_text(file, json.dumps(found.plain(), indent=2) + "\n")
            return file
        reason = "no folder"
    except OSError as error:
        reason = error.strerror or type(error).__name__
    flags = " ".join([f"--in-channels {len(mean)} --pixel-mean", *map(str, mean), "--pixel-std", *map(str, std)])
    logger.warning("%s: cannot be written (%s); give train %s", file, reason, flags)
    return None
