"""Which pixels a model takes: RGB with 8 bits, or any channels as they are stored, and how they are normalised."""

import logging
from pathlib import Path
from typing import Self, TypeVar

from pydantic import model_validator

from botvision.configuration import Config, Count, FieldError, Positive
from botvision.data.images import PIXEL_MEAN, PIXEL_STD, UnreadableImage, read_image
from botvision.data.pixel_statistics import common_channels, read_statistics
from botvision.errors import UserError

logger = logging.getLogger("botvision")

RGB = 3
"""Channels of a picture."""


class PixelConfig(Config):
    """The images of a model, whatever the task."""

    in_channels: Count | None = None
    """Channels of images that are read as stored (.npy, TIFF), not as RGB with 8 bits; by default as botvision data
    check found them."""
    pixel_mean: tuple[float, ...] | None = None
    """Mean of each channel, in the unit of the files; by default what botvision data check measured, or of RGB
    ImageNet's."""
    pixel_std: tuple[Positive, ...] | None = None
    """Standard deviation of each channel, as pixel_mean."""

    @model_validator(mode="after")
    def check_statistics(self) -> Self:
        """One number for each channel."""
        for name in ("pixel_mean", "pixel_std"):
            values, wanted = getattr(self, name), self.in_channels or RGB
            if values is not None and len(values) != wanted:
                raise FieldError((name,), f"should have a number for each of {wanted} channels, got {len(values)}")
        return self

    @property
    def mean(self) -> tuple[float, ...]:
        """Of each channel.

        Raises:
            FieldError: it is not known.
        """
        return self.pixel_mean or self._of_imagenet("pixel_mean", PIXEL_MEAN)

    @property
    def std(self) -> tuple[float, ...]:
        """Of each channel; errors as above."""
        return self.pixel_std or self._of_imagenet("pixel_std", PIXEL_STD)

    @property
    def padding(self) -> tuple[float, ...]:
        """What is put beside an image: the mean, which becomes 0 when it is normalised; of RGB a colour of 8 bits."""
        return tuple(map(float, map(round, self.mean))) if self.in_channels is None else self.mean

    def _of_imagenet(self, name: str, values: tuple[float, ...]) -> tuple[float, ...]:
        if self.in_channels is not None:
            raise FieldError((name,), f"should be {self.in_channels} numbers, as botvision data check measures them")
        return values


Some = TypeVar("Some", bound=PixelConfig)


def with_pixels_of(config: Some, data: Path | str, split: str, first: Path) -> Some:
    """A configuration with the fields that its data decide, from what `botvision data check` kept in their folder.

    Args:
        config: of a model; fields that are given stay.
        data: folder of the data set, or a URL.
        split: that is trained on.
        first: its first image; nothing is known of one inside a shard.

    Raises:
        FieldError: other channels than the data's, or images as stored that were not measured.
        UserError: images that are neither measured nor readable as RGB, or damaged measurements.
    """
    kept = None if "://" in str(data) else read_statistics(Path(data), split)
    channels = config.in_channels or (kept.channels if kept else None)
    if channels is None:
        warn_of_stored(first, data)
        return config
    if kept is None and channels == RGB and common_channels([first]) is None:
        return config.replace(in_channels=None)
    if kept and kept.channels != channels:
        problem = f"should be {kept.channels}, as botvision data check found in {data}, got {channels}"
        raise FieldError(("model", "in_channels"), problem)
    mean, std = config.pixel_mean or (kept and kept.mean), config.pixel_std or (kept and kept.std)
    if not (mean and std):
        problem = f"needs pixel_mean and pixel_std; botvision data check {data} --in-channels {channels} measures them"
        raise FieldError(("model", "in_channels"), problem)
    return config.replace(in_channels=channels, pixel_mean=mean, pixel_std=std)


def warn_of_stored(first: Path, data: Path | str) -> None:
    """Say of images that are no pictures what to do, where they are read as RGB nevertheless; refuse them otherwise.

    Raises:
        UserError: they cannot be read as RGB.
    """
    channels = common_channels([first])
    if channels is None:
        return
    problem = f"{first}: has {channels} channels, not 8 bits of RGB; botvision data check {data} measures such images"
    try:
        read_image(first)
    except UnreadableImage as error:
        raise UserError(f"{problem} for training") from error
    logger.warning("%s, and training then reads them as stored; now they are read as RGB", problem)
