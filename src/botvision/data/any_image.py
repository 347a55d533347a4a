"""Images as programs hold them: files, arrays, tensors, images of Pillow's, and batches of these."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from botvision.data.images import check_channels, read_image, upright_pixels
from botvision.data.stored import as_stored
from botvision.errors import UserError

AnyImage = str | Path | Image.Image | np.ndarray | Tensor
"""What :func:`pixels_of` takes."""

CHANNELS = (1, 3, 4)
"""Of an array of bytes."""
DEEP = {"uint16": np.uint16, **dict.fromkeys(("float16", "float32", "float64"), np.float32)}
"""Types of NumPy's, of any order of bytes, and those in which Pillow has their grey values."""


def pixels_of(image: AnyImage, channels: int | None = None) -> Tensor:
    """One image as `read_image` gives it: RGB, uint8, (3, H, W); with `channels` as stored, float32 (channels, H, W).

    Args:
        image: a file; an image of Pillow's, of any mode; an array (H, W), (H, W, 3) in RGB or (H, W, 4), uint8, or
            grey (H, W) of uint16 or floating point; or a tensor (3, H, W) or (1, H, W), uint8, or floating point from
            0 to 1. Files and images of Pillow's are turned upright as their EXIF data say.
        channels: of images as stored. Their arrays are (H, W, channels) or (H, W) and their tensors (channels, H, W),
            in the unit of the training images.

    Raises:
        UnreadableImage: a file that is missing, damaged, of no known format or too large.
        UserError: anything else, an empty array, or floating-point numbers outside of 0 to 1.
    """
    if isinstance(image, str | Path):
        if Path(image).is_dir():
            raise UserError(
                f"{image}: is a folder; give a list of its files, such as list(Path({str(image)!r}).iterdir())"
            )
        return read_image(Path(image), channels=channels)
    if channels is not None:
        return stored_pixels(image, channels)
    if isinstance(image, Tensor):
        return pixels_of_tensor(image)
    if isinstance(image, np.ndarray):
        if np.issubdtype(image.dtype, np.floating) and image.ndim == 3 and image.shape[2] != 1:
            return pixels_of_tensor(torch.from_numpy(np.moveaxis(image, 2, 0)))
        image = of_array(image)
    if isinstance(image, Image.Image):
        return upright_pixels(image)
    raise UserError(f"an image should be a file, an array, a tensor or one of Pillow's, got {type(image).__name__}")


def stored_pixels(image: Image.Image | np.ndarray | Tensor, channels: int) -> Tensor:
    """An image that is no file, as stored; errors as in :func:`pixels_of`."""
    name = f"an image of type {type(image).__name__}"
    array = image.detach().cpu().movedim(0, -1).numpy() if isinstance(image, Tensor) else np.asarray(image)
    try:
        pixels = as_stored(array)
    except ValueError as error:
        raise UserError(f"{name}: {error}") from error
    check_channels(pixels, name, channels)
    return pixels


def of_array(array: np.ndarray) -> Image.Image:
    """An array as an image of Pillow's; errors as in :func:`pixels_of`."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    with np.errstate(over="ignore"):  # what is too large for Pillow's type becomes infinite
        array = array.astype(DEEP.get(array.dtype.name, array.dtype), copy=False)
    deep_grey = array.ndim == 2 and array.dtype in (np.uint16, np.float32)
    in_bytes = array.dtype == np.uint8 and (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in CHANNELS))
    if not array.size or not (deep_grey or in_bytes):
        raise UserError(
            f"an array should be (H, W, 3) of uint8 in the order RGB, got {array.shape} of {array.dtype}; "
            "also taken are (H, W, 4), grey (H, W) of uint8, uint16 or floating point, and colours of floating point"
        )
    return Image.fromarray(np.ascontiguousarray(array))


def pixels_of_tensor(image: Tensor) -> Tensor:
    """A tensor as bytes with three channels; errors as in :func:`pixels_of`."""
    if image.ndim != 3 or image.shape[0] not in (1, 3) or not image.numel():
        raise UserError(f"a tensor should be (3, H, W), in the order RGB, got {tuple(image.shape)}")
    image = image.detach().cpu()
    if image.is_floating_point():
        if not (image.min() >= 0 and image.max() <= 1):
            raise UserError("floating-point images should be from 0 to 1; give those from 0 to 255 as uint8")
        image = (image * 255).round().byte()
    if image.dtype != torch.uint8:
        raise UserError(f"a tensor should be of uint8, or floating point from 0 to 1, got {image.dtype}")
    return image.expand(3, -1, -1)


def separated(images: AnyImage | Iterable[AnyImage]) -> tuple[list[AnyImage], bool]:
    """Images one by one, and whether there is only one, not in a batch; files are not read yet.

    A batch is an array (B, H, W, C), a tensor (B, C, H, W), or anything else that gives images one after the other.
    """
    if isinstance(images, str | Path | Image.Image) or (isinstance(images, np.ndarray | Tensor) and images.ndim < 4):
        return [images], True
    if not isinstance(images, Iterable):
        raise UserError(f"images should be an image or several, got {type(images).__name__}")
    return list(images), False
