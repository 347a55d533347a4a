"""Image files: reading them as RGB."""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from botvision.errors import UserError

logger = logging.getLogger("botvision")

PIXEL_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
PIXEL_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)
"""ImageNet's mean and standard deviation of a channel, in 8-bit units."""

EXIF_ORIENTATION = 0x0112
UPRIGHT = 1
QUARTER_TURNS = range(5, 9)  # the EXIF orientations that exchange height and width


class UnreadableImage(UserError):
    """An image file that is missing, damaged, of no known format or suspiciously large."""


def read_image(path: Path, expected_size: tuple[int, int] | None = None, *, apply_exif: bool = False) -> Tensor:
    """Read an image file as RGB, uint8, shape (3, H, W).

    Grey, palette, CMYK and 16-bit images are converted; transparent parts become white.

    Args:
        path: any format that Pillow reads; of an animation, the first frame.
        expected_size: (H, W) in pixels that the annotations give. Annotations are made on the stored pixels, so a
            camera's rotation mark (EXIF) is followed only where the stored size differs and the rotated one agrees.
        apply_exif: without an `expected_size`, whether to turn the image as its rotation mark says. Prediction does,
            so that it sees a photograph as every viewer shows it.

    Raises:
        UnreadableImage: the file is missing, damaged, of no known format or suspiciously large.
        UserError: it is not of `expected_size`.
    """
    with _readable(path), Image.open(_stream(path.read_bytes())) as opened:
        image = _turned(opened, expected_size, apply_exif)
        if expected_size is not None and _size(image) != expected_size:
            raise UserError(
                f"{path}: the image is {image.height} high and {image.width} wide, "
                f"but its annotations say {expected_size[0]} and {expected_size[1]}"
            )
        return torch.from_numpy(np.array(_rgb(image))).permute(2, 0, 1)


def decode_image(encoded: bytes, name: str | Path) -> Image.Image:
    """The bytes of an image file as an RGB image: the pixels that `read_image` gives with `apply_exif`.

    Args:
        encoded: the whole file.
        name: of the file, for the message.

    Raises:
        UnreadableImage: the bytes are damaged, of no known format or suspiciously large.
    """
    with _readable(name), Image.open(_stream(encoded)) as opened:
        return _rgb(_turned(opened, None, apply_exif=True))


def read_images(files: Sequence[Path], on_image: Callable[[int, int], None]) -> Iterator[tuple[int, Tensor]]:
    """Read image files one after the other, rotated as their marks say, and warn of those that cannot be read.

    Args:
        files: images.
        on_image: called after each image with how many are done, and of how many.

    Yields:
        The number of an image, from 1 on, and its pixels, (3, H, W) uint8.

    Raises:
        UserError: not one of them can be read.
    """
    readable = 0
    for number, file in enumerate(files, start=1):
        try:
            image = read_image(file, apply_exif=True)
        except UnreadableImage as error:
            if number == len(files) and not readable:
                raise UserError(f"no image can be read: {error}") from error
            logger.warning("left out %s", error)
        else:
            readable += 1
            yield number, image
        on_image(number, len(files))


def check_inside(path: Path, root: Path) -> None:
    """Refuse a link that leads out of an image folder.

    Raises:
        UserError: names the link.
    """
    if not path.resolve().is_relative_to(root):
        what = "folder" if path.is_dir() else "file"
        raise UserError(f"{path}: is a link to a place outside the image folder {root}; put the {what} itself there")


@contextmanager
def _readable(name: str | Path) -> Iterator[None]:
    """Turns every error of a decoder into one line that names the file; its warnings are of damage that it repaired."""
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UnreadableImage(f"{name}: no such image file") from error
    except Exception as error:  # decoders raise many kinds of error on damaged bytes
        raise UnreadableImage(f"{name}: cannot be read as an image ({_reason(error)}); replace the file") from error


def _reason(error: Exception) -> str:
    """The message of a decoder in one line, without the file or the object that it names."""
    if isinstance(error, UnidentifiedImageError):
        return "of no known image format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def _stream(encoded: bytes) -> BytesIO:
    if not encoded:
        raise ValueError("is empty")
    return BytesIO(encoded)


def _size(image: Image.Image) -> tuple[int, int]:
    return image.height, image.width


def _turned(image: Image.Image, expected_size: tuple[int, int] | None, apply_exif: bool) -> Image.Image:
    """The image, rotated by its mark where `read_image` says so."""
    orientation = _orientation(image)
    if expected_size is None:
        turn = apply_exif and orientation != UPRIGHT
    else:
        turn = _size(image) != expected_size == (image.width, image.height) and orientation in QUARTER_TURNS
    return ImageOps.exif_transpose(image) if turn else image


def _orientation(image: Image.Image) -> int:
    """The rotation mark; upright where there is none or it is damaged, as the pixels may be intact."""
    try:
        return image.getexif().get(EXIF_ORIENTATION, UPRIGHT)
    except Exception:  # as in _readable
        return UPRIGHT


def _rgb(image: Image.Image) -> Image.Image:
    """The image in RGB, 8 bits a channel, decoded."""
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow's own conversion would clip at 255
        image = Image.fromarray((np.clip(np.asarray(image), 0, 65535) // 256).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers; save it with 8 or 16 bits")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        seen = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen)
    image.load()
    return image if image.mode == "RGB" else image.convert("RGB")
