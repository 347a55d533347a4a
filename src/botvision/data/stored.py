"""Images as they are stored: arrays of NumPy's, TIFF files and others, with any number of channels, not as RGB."""

import logging
import zlib
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.lib import format as npy
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from torch import Tensor

from botvision.data.image_files import ARRAY_SUFFIX, image_formats

ARRAY_START = b"\x93NUMPY"
TIFF_SUFFIXES = (".tif", ".tiff")
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""Of files with little and big ends first, the last two of BigTIFF."""
TYPES = ("uint8", "int8", "uint16", "int16", "float16", "float32")
"""Whose every value float32 holds exactly."""
MODES = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "I;16": 1, "I;16B": 1, "I": 1, "F": 1}
"""Pillow's modes that are read as stored, and their channels."""
WIDTH, HEIGHT, BITS, SAMPLES, PHOTOMETRIC, EXTRA_SAMPLES = 256, 257, 258, 277, 262, 338
SUBFILE, SAMPLE_FORMAT = 254, 339
"""TIFF's tags."""
GREY, CMYK, ALPHA = (0, 1), 5, (1, 2)
"""Values of the photometric tag (the first two) and of the extra samples."""
BESIDE = 1 | 4
"""Bits of the subfile tag: the page is a smaller version of another, or its mask."""
DEFLATE, DEFLATE_RATIO = (8, 32946), 1032
"""TIFF's numbers of this compression, and how many times larger it can make a file."""
LARGEST_UNCHECKED = 2**28
"""Bytes that a compressed part may have at most without a look at how many there are."""
LAYOUT = "should be (height, width) or (height, width, channels)"


def stored_channels(path: Path) -> int | None:
    """The channels of an image file that is no picture, from its header; None for a picture, see `stored_shape`."""
    shape = stored_shape(path)
    return shape[0] if shape else None


def stored_shape(path: Path) -> tuple[int, int, int] | None:
    """(C, H, W) of an image file that is no picture, from its header; None for a picture, which is read as RGB.

    Arrays are no pictures. A TIFF file is one if it has one page that is grey, pages with a palette, or pages with 8
    bits a channel and three of them, or four with a declared alpha or as CMYK; so is every file of another format.
    Several grey pages of one size and type are channels.

    Raises:
        OSError, ValueError, SyntaxError and others: the header is damaged.
    """
    suffix = path.suffix.lower()
    if suffix != ARRAY_SUFFIX and suffix not in TIFF_SUFFIXES:
        return None
    with path.open("rb") as file:
        if suffix in TIFF_SUFFIXES:
            return tiff_shape(file)
        (height, width, *channels), *_ = array_header(file)
        return (*channels, 1)[0], height, width


def tiff_shape(file: BinaryIO) -> tuple[int, int, int] | None:
    """:func:`stored_shape` of a TIFF file."""
    pages = tiff_pages(file)
    first = next(pages, None)
    if first is None:  # another format with this suffix
        return None
    samples, bits = first.get(SAMPLES, 1), max(first.get(BITS, (1,)))
    size = first[HEIGHT], first[WIDTH]
    if samples == 1:
        channels = 1 + sum(is_channel(page, first) for page in pages)
        return (channels, *size) if channels > 1 else None
    colours = samples - any(extra in ALPHA for extra in first.get(EXTRA_SAMPLES, ()))
    is_picture = bits <= 8 and (colours in (1, 3) or first.get(PHOTOMETRIC) == CMYK)
    return None if is_picture else (samples, *size)


def tiff_pages(file: BinaryIO) -> Iterator[dict[int, Any]]:
    """The tags of each page of a TIFF file; nothing of another file."""
    start = file.read(8)
    if not start.startswith(TIFF_STARTS):
        return
    if start.startswith(TIFF_STARTS[2:]):
        start += file.read(8)
    tags = ImageFileDirectory_v2(start)
    seen: set[int] = set()
    while tags.next and tags.next not in seen:  # a damaged file could go in circles
        seen.add(tags.next)
        file.seek(tags.next)
        tags.load(file)
        yield dict(tags)


def is_channel(page: Mapping[int, Any], first: Mapping[int, Any]) -> bool:
    """Whether a page is a channel beside the first one: grey as this one, of whole bytes, and of its size and type."""
    is_deep_grey = first.get(PHOTOMETRIC) in GREY and max(first.get(BITS, (1,))) >= 8
    is_alike = all(
        page.get(tag) == first.get(tag) for tag in (WIDTH, HEIGHT, BITS, SAMPLES, PHOTOMETRIC, SAMPLE_FORMAT)
    )
    return is_deep_grey and is_alike and not page.get(SUBFILE, 0) & BESIDE


def decode_stored(encoded: bytes, most_values: int) -> Tensor:
    """The values of an image file as they are stored: float32, (C, H, W).

    Args:
        encoded: the whole file: NumPy's .npy of (H, W) or (H, W, C); TIFF; or another format of Pillow's.
        most_values: images with more numbers are refused.

    Raises:
        ValueError and others: it is damaged, of another type or layout, or too large.
    """
    if encoded.startswith(ARRAY_START):
        return as_stored(read_array(encoded, most_values))
    if encoded.startswith(TIFF_STARTS):
        return as_stored(read_tiff(encoded, most_values))
    return as_stored(read_picture(encoded, most_values))


def as_stored(array: np.ndarray) -> Tensor:
    """An array (H, W) or (H, W, C) as float32 (C, H, W).

    Raises:
        ValueError: another layout or type, or values that are infinite or NaN.
    """
    check_layout(array.shape, array.dtype)
    if array.ndim == 2:
        array = array[:, :, None]
    values = np.ascontiguousarray(np.moveaxis(array, 2, 0), dtype=np.float32)
    if array.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError("has values that are infinite or no number (NaN); replace them by numbers")
    return torch.from_numpy(values)


def check_layout(shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Refuse what is no image; raises a ValueError."""
    if len(shape) not in (2, 3) or not all(shape):
        raise ValueError(f"has the shape {shape}, {LAYOUT}")
    if dtype.name not in TYPES:
        raise ValueError(f"holds {dtype.name}; save it as one of {', '.join(TYPES)}")


def check_size(shape: tuple[int, ...], most_values: int) -> None:
    """Refuse what is too large."""
    count = int(np.prod([int(side) for side in shape], dtype=object))
    if count > most_values:
        raise Image.DecompressionBombError(f"{count} numbers, {' x '.join(map(str, shape))}")


def array_header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype]:  # noqa: ANN401 (a binary file)
    """Shape, whether the first axis varies fastest, and type of an .npy file, checked; nothing of it is executed."""
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError("is an array with named fields")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, is_fortran, dtype = read(file)
    check_layout(shape, dtype)
    return shape, is_fortran, dtype


def read_array(encoded: bytes, most_values: int) -> np.ndarray:
    """The array of an .npy file."""
    file = BytesIO(encoded)
    shape, is_fortran, dtype = array_header(file)
    check_size(shape, most_values)
    wanted = int(np.prod(shape)) * dtype.itemsize
    if len(encoded) - file.tell() != wanted:
        raise ValueError(f"its {len(encoded) - file.tell()} bytes of values should be {wanted}")
    values = np.frombuffer(encoded, dtype, offset=file.tell())
    return values.reshape(shape, order="F" if is_fortran else "C")


def read_tiff(encoded: bytes, most_values: int) -> np.ndarray:
    """The first image of a TIFF file, (H, W, C); all pages of its size and type are its channels."""
    try:
        from tifffile import TiffFile
    except ImportError as error:
        raise ValueError("TIFF files as stored need the package tifffile: pip install 'botvision[tiff]'") from error
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # it logs what it raises, too
    try:
        with TiffFile(BytesIO(encoded), is_ome=False) as file:  # whose XML could name other files
            first = file.series[0]
            images = [image for image in file.series if image is first or is_like(image, first)]
            if len(images) > 1 and any(image.keyframe.samplesperpixel > 1 for image in images):
                raise ValueError(f"has {len(images)} pages of several channels, {LAYOUT}")
            check_size((sum(image.size for image in images),), most_values)
            return np.concatenate([channels_of(image, encoded) for image in images], axis=2)
    except KeyError as error:  # of a compression
        raise ValueError(f"{error.args[0]}: pip install imagecodecs") from error


def is_like(image: Any, first: Any) -> bool:  # noqa: ANN401 (of tifffile)
    """Whether pages of a TIFF file are channels beside the first ones."""
    pages = [(one.dtype, one.keyframe) for one in (image, first)]
    own, wanted = ((dtype, page.imagelength, page.imagewidth, page.photometric) for dtype, page in pages)
    return own == wanted and not image.keyframe.subfiletype & BESIDE


def channels_of(image: Any, encoded: bytes) -> np.ndarray:  # noqa: ANN401 (of tifffile)
    """One image of a TIFF file, (H, W, C); its pages are channels, but for masks and smaller versions."""
    axes = image.axes
    others = [place for place, axis in enumerate(axes) if axis not in "YX"]
    channels = [place for place in others if image.shape[place] > 1]
    if len(channels) > 1 or axes.count("Y") != 1 or axes.count("X") != 1:
        raise ValueError(f"has the axes {axes} of {image.shape}, {LAYOUT}")
    check_layout(image.shape[-1:] * 2, image.dtype)
    for page in image.pages:
        check_inflated(encoded, page, image.nbytes)
    values = image.asarray().transpose(axes.index("Y"), axes.index("X"), *others)
    values = values.reshape(*values.shape[:2], -1)
    wanted = [page is None or page is image.keyframe or not page.subfiletype & BESIDE for page in image.pages]
    return values if all(wanted) else values[:, :, wanted]


def check_inflated(encoded: bytes, page: Any, most: int) -> None:  # noqa: ANN401 (of tifffile)
    """Refuse a page of a TIFF file with parts that are larger than the whole image once they are decompressed."""
    if page is None or page.compression not in DEFLATE:
        return
    for start, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        if count * DEFLATE_RATIO > max(most, LARGEST_UNCHECKED):
            opened = zlib.decompressobj()
            opened.decompress(encoded[start : start + count], max_length=most)
            if opened.unconsumed_tail:
                raise Image.DecompressionBombError(f"a part of it holds more than {most} bytes")


def read_picture(encoded: bytes, most_values: int) -> np.ndarray:
    """The pixels of a file that Pillow reads, not converted."""
    with Image.open(BytesIO(encoded), formats=image_formats()) as image:
        channels = MODES.get(image.mode, 0)
        if not channels or (channels > 1 and any(";16" in str(tile) for tile in image.tile)):
            raise ValueError(f"cannot be read as stored (Pillow's mode {image.mode}); save it as TIFF or .npy")
        check_size((image.height, image.width, channels), most_values)
        pixels = np.asarray(image)
    if image.mode == "I" and pixels.min() >= 0 and pixels.max() < 2**16:  # 16 bits, by Pillow before 11
        pixels = pixels.astype(np.uint16)
    return pixels
