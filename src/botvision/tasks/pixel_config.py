"""Which pixels a model takes: RGB with 8 bits, or any channels as they are stored, and how they are normalised."""

from typing import Self

from pydantic import model_validator

from botvision.configuration import Config, Count, FieldError, Positive

RGB = 3
"""Channels of a picture."""
PIXEL_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
PIXEL_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)
"""ImageNet's mean and standard deviation of a channel, in 8-bit units."""


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
