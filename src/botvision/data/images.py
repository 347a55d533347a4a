"""Image files: reading them as RGB, upright, with one line for every file that cannot be read."""

import logging
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError
from PIL.Image import Transpose
from torch import Tensor

from botvision.data.image_files import FORMATS, image_formats
from botvision.data.pixels import to_array, to_rgb, warn_once
from botvision.data.stored import ARRAY_START, decode_stored, stored_channels, stored_shape, tiff_shape
from botvision.errors import UserError, short
from botvision.files import read_file

logger = logging.getLogger("botvision")

MAX_PIXELS = 128_000_000
"""Images with more pixels are refused: a file of a few kilobytes can hold an image that fills the memory."""
MAX_PIXELS_SETTING = "BOTVISION_MAX_PIXELS"
"""The environment variable that sets another limit."""
BYTES_A_PIXEL = 8
"""An image file is no larger than this times its pixels: four channels of 16 bits, not compressed."""

BATCH_PIXELS = 64_000_000
"""Of the images that are predicted on at once, as they are stored: 192 MB."""

EXIF_ORIENTATION = 0x0112
TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
"""What makes an image upright, by its rotation mark (EXIF orientation)."""
QUARTER_TURNS = range(5, 9)  # the marks that exchange height and width
LOOKED_AT = 1000
"""Images of a data set whose rotation marks are looked at before a run; all would take minutes on a slow disk."""


class UnreadableImage(UserError):
    """An image file that is missing, damaged, of no known format or suspiciously large."""


def read_image(path: Path, expected_size: tuple[int, int] | None = None, channels: int | None = None) -> Tensor:
    """Read an image file as RGB, uint8, shape (3, H, W), upright as its rotation mark (EXIF) says; or as it is stored.

    Every pixel format is converted, see :func:`~botvision.data.pixels.to_rgb`; of an animation, the first frame counts.

    Args:
        path: a regular file of one of :data:`~botvision.data.image_files.FORMATS`.
        expected_size: (H, W) in pixels that the annotations give. Where the stored image has this size and the upright
            one has not, the annotations were made on the stored pixels: the image is then not turned.
        channels: read its values as they are stored, not turned, float32 (channels, H, W); see
            :func:`~botvision.data.stored.decode_stored`.

    Raises:
        UnreadableImage: the file is missing, damaged, of another format or too large, or has other channels.
        UserError: it is not of `expected_size`.
    """
    with _readable(path):
        encoded = read_file(path, BYTES_A_PIXEL * max_pixels())
        if channels is not None:
            pixels = decode_channels(encoded, path, channels)
        else:
            pixels = torch.from_numpy(to_array(_decode(encoded, path, expected_size))).permute(2, 0, 1)
        height, width = pixels.shape[1:]
        if expected_size is not None and (height, width) != expected_size:
            raise UserError(
                f"{path}: the image is {height} high and {width} wide, "
                f"but its annotations say {expected_size[0]} and {expected_size[1]}"
            )
        return pixels


def decode_channels(encoded: bytes, name: str | Path, channels: int) -> Tensor:
    """The bytes of an image file as they are stored: float32, (channels, H, W); errors as in `decode_image`."""
    with _readable(name):
        pixels = decode_stored(encoded, 3 * max_pixels())  # as many values as an RGB image has at most
        check_channels(pixels, name, channels)
        return pixels


def check_channels(pixels: Tensor, name: str | Path, channels: int) -> None:
    """Raise an UnreadableImage for an image (C, H, W) of another number of channels."""
    if len(pixels) != channels:
        raise UnreadableImage(f"{name}: has {len(pixels)} channels and should have {channels} (in_channels)")


def decode_image(encoded: bytes, name: str | Path) -> Image.Image:
    """The bytes of an image file as an RGB image: the pixels that `read_image` gives.

    Args:
        encoded: the whole file.
        name: of the file, for the message.

    Raises:
        UnreadableImage: the bytes are damaged, of another format or of an image that is too large.
    """
    with _readable(name):
        return _decode(encoded, name, None)


def upright_pixels(image: Image.Image, name: str | Path = "the image") -> Tensor:
    """An image of Pillow's as `read_image` gives it: RGB, uint8, (3, H, W), upright as its rotation mark says.

    Args:
        image: of any mode, decoded or not.
        name: for the message.

    Raises:
        UnreadableImage: its file is damaged, or it is too large.
    """
    with _readable(name):
        return torch.from_numpy(to_array(_upright(image, name, None))).permute(2, 0, 1)


def upright_size(path: Path) -> tuple[int, int]:
    """(H, W) in pixels of an image file as `read_image` gives it, from its header alone.

    Raises:
        UnreadableImage: the file is missing, damaged or of another format.
    """
    with _readable(path):
        if shape := stored_shape(path):
            return shape[1:]
    with _readable(path), Image.open(path, formats=image_formats()) as image:
        is_turned = image.format not in ("TIFF", "PNG") and _mark(image) in QUARTER_TURNS
        return (image.width, image.height) if is_turned else (image.height, image.width)


def check_size(path: Path, size: tuple[int, int]) -> None:
    """Refuse an image file that `read_image` refuses for not having the (H, W) that its annotations give.

    Its pixels are decoded only where its header has another size, as a rotation mark may come after them.

    Raises:
        UnreadableImage: the file is missing, damaged or of another format.
        UserError: it has another size.
    """
    if upright_size(path) != size:
        read_image(path, size, stored_channels(path))


def max_pixels() -> int:
    """The limit on the pixels of an image: `BOTVISION_MAX_PIXELS`, else `MAX_PIXELS`.

    Raises:
        UserError: the environment variable is no whole number above 0.
    """
    text = os.environ.get(MAX_PIXELS_SETTING) or str(MAX_PIXELS)
    if not text.isdecimal() or not text.strip("0"):
        raise UserError(f"{MAX_PIXELS_SETTING}: should be a number of pixels, got {short(text)}")
    return int(text)


def warn_of_rotation_marks(source: Path, images: Sequence[tuple[Path, tuple[int, int]]]) -> None:
    """Warn in one line of images whose frame the annotated size does not tell: half turns, mirrors, squares.

    They are turned upright. Annotations that were made on the stored pixels would then be in wrong places.

    Args:
        source: of the annotations.
        images: files, and the (H, W) that the annotations give; at most `LOOKED_AT` of them are looked at.
    """
    looked_at = images[:: -(-len(images) // LOOKED_AT) or 1]
    unclear = [path for path, size in looked_at if _is_frame_unclear(path, size)]
    if unclear:
        logger.warning(
            "%s: %d of %d images looked at have a rotation mark (EXIF) for which the annotated size does not tell "
            "whether the annotations follow it, such as %s; these images are turned upright, as in prediction",
            *(source, len(unclear), len(looked_at), unclear[0]),
        )


def _is_frame_unclear(path: Path, size: tuple[int, int]) -> bool:
    try:
        with _readable(path), Image.open(path, formats=image_formats()) as image:
            if image.format == "PNG" and "exif" not in image.info:  # Pillow would decode it all in search of a mark
                return False
            mark = _mark(image)
    except UserError:  # the run says so when it reads the image
        return False
    return mark in TURNS and (mark not in QUARTER_TURNS or size[0] == size[1])


def read_image_batches(
    files: Sequence[Path], batch_size: int, on_image: Callable[[int, int], None], channels: int | None = None
) -> Iterator[list[tuple[int, Tensor]]]:
    """Read image files in batches, rotated as their marks say, and warn of those that cannot be read.

    A thread reads the next image while the caller works on a batch. A batch is emptied when the next one is asked for,
    so that no more than one batch and the image after it are in memory.

    Args:
        files: images.
        batch_size: most images of a batch.
        on_image: called with how many images are done, and of how many.
        channels: as in `read_image`.

    Yields:
        For each image its number, from 1 on, and its pixels as `read_image` gives them; together at most `BATCH_PIXELS`
        pixels, or one image that has more.

    Raises:
        UserError: not one of them can be read.
    """
    batch: list[tuple[int, Tensor]] = []
    total, readable = len(files), 0
    for number, image in enumerate(_read_ahead(files, channels), start=1):
        if isinstance(image, UnreadableImage):
            if number == total and not readable:
                raise UserError(f"no image can be read: {image}") from image
            logger.warning("left out %s", image)
        else:
            readable += 1
            if batch and sum(map(_pixels, (*batch, (number, image)))) > BATCH_PIXELS:
                yield batch
                batch.clear()
                on_image(number - 1, total)
            batch.append((number, image))
        if len(batch) == batch_size or (batch and number == total):
            yield batch
            batch.clear()
        if not batch:
            on_image(number, total)


def _read_ahead(files: Sequence[Path], channels: int | None) -> Iterator[Tensor | UnreadableImage]:
    """Each image, or why it cannot be read; the one after it is being read already."""
    with ThreadPoolExecutor(1) as reader:
        upcoming = deque(reader.submit(_read_or_reason, file, channels) for file in files[:1])
        for place in range(len(files)):
            image = upcoming.popleft().result()
            upcoming.extend(reader.submit(_read_or_reason, file, channels) for file in files[place + 1 : place + 2])
            yield image


def _read_or_reason(file: Path, channels: int | None) -> Tensor | UnreadableImage:
    try:
        return read_image(file, channels=channels)
    except UnreadableImage as error:
        return error


def _pixels(numbered: tuple[int, Tensor]) -> int:
    return numbered[1][0].numel()


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
        return f"of no known image format, which are {', '.join(FORMATS)}"
    if isinstance(error, Image.DecompressionBombError):
        return f"more pixels than {max_pixels()}, the limit that {MAX_PIXELS_SETTING} sets: {error}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def _size(image: Image.Image) -> tuple[int, int]:
    return image.height, image.width


def _decode(encoded: bytes, name: str | Path, expected_size: tuple[int, int] | None) -> Image.Image:
    """The image in RGB, upright unless `read_image` says otherwise; refused by its header where it is too large."""
    if not encoded:
        raise ValueError("is empty")
    if encoded.startswith(ARRAY_START):
        raise ValueError("is an array, which is read as stored (in_channels), and not as RGB")
    if Image.MAX_IMAGE_PIXELS:  # Pillow itself refuses twice as many
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, max_pixels() // 2 + 1)
    with Image.open(BytesIO(encoded), formats=image_formats()) as opened:
        if opened.format == "TIFF" and len(opened.getbands()) == 1 and (shape := tiff_shape(BytesIO(encoded))):
            warn_once(name, f"is read as RGB, of its first page alone, and not as {shape[0]} channels (in_channels)")
        return _upright(opened, name, expected_size)


def _upright(opened: Image.Image, name: str | Path, expected_size: tuple[int, int] | None) -> Image.Image:
    if opened.width * opened.height > max_pixels():
        raise Image.DecompressionBombError(f"{opened.width} x {opened.height}")
    image = to_rgb(opened, name)
    # After decoding, in which PNG files are searched for a mark. Pillow turns TIFF images itself, and before 10.1
    # leaves the mark.
    mark = 1 if opened.format == "TIFF" else _mark(opened)
    stored_is_meant = mark in QUARTER_TURNS and expected_size == _size(image) != (image.width, image.height)
    return image if stored_is_meant or mark not in TURNS else image.transpose(TURNS[mark])


def _mark(image: Image.Image) -> int:
    """The rotation mark; upright where there is none or it is damaged, as the pixels may be intact."""
    try:
        return int(image.getexif().get(EXIF_ORIENTATION, 1))
    except Exception:  # as in _readable
        return 1
