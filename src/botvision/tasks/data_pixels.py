"""Which pixels a model takes, as its training data decide."""

import logging
from pathlib import Path
from typing import TypeVar

from botvision.configuration import FieldError
from botvision.data.images import UnreadableImage, read_image
from botvision.data.pixel_statistics import common_channels, read_statistics
from botvision.errors import UserError
from botvision.tasks.pixel_config import RGB, PixelConfig

logger = logging.getLogger("botvision")

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
        raise FieldError(("model", "in_channels"), problem, ("pixel_mean", "pixel_std"))
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
