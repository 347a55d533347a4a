"""Images as they are stored: arrays of NumPy's, TIFF files and others, with any number of channels, not as RGB."""

import logging
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

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
"""TIFF's tags."""
CMYK, ALPHA = 5, (1, 2)
"""Values of the last two."""
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

    Arrays are no pictures. A TIFF file is one if it is grey, has a palette, or has 8 bits a channel and three of them,
    or four with a declared alpha or as CMYK; so is every file of another format.

    Raises:
        OSError, ValueError, SyntaxError and others: the header is damaged.
    """
    if path.suffix.lower() == ARRAY_SUFFIX:
        with path.open("rb") as file:
            (height, width, *channels), *_ = array_header(file)
        return (*channels, 1)[0], height, width
    return tiff_shape(path) if path.suffix.lower() in TIFF_SUFFIXES else None


def tiff_shape(path: Path) -> tuple[int, int, int] | None:
    """:func:`stored_shape` of a TIFF file."""
    with path.open("rb") as file:
        start = file.read(8)
        if not start.startswith(TIFF_STARTS):  # another format with this suffix
            return None
        if start.startswith(TIFF_STARTS[2:]):
            start += file.read(8)
        tags = ImageFileDirectory_v2(start)
        file.seek(tags.next)
        tags.load(file)
    samples, bits = tags.get(SAMPLES, 1), max(tags.get(BITS, (1,)))
    colours = samples - any(extra in ALPHA for extra in tags.get(EXTRA_SAMPLES, ()))
    is_picture = samples == 1 or (bits <= 8 and (colours in (1, 3) or tags.get(PHOTOMETRIC) == CMYK))
    return None if is_picture else (samples, tags[HEIGHT], tags[WIDTH])


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
    """The first image of a TIFF file, (H, W, C); pages of one size that follow each other are its channels."""
    try:
        from tifffile import TiffFile
    except ImportError as error:
        raise ValueError("TIFF files as stored need the package tifffile: pip install 'botvision[tiff]'") from error
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # it logs what it raises, too
    try:
        with TiffFile(BytesIO(encoded), is_ome=False) as file:  # whose XML could name other files
            image = file.series[0]
            axes = image.axes
            channels = [place for place, axis in enumerate(axes) if axis not in "YX" and image.shape[place] > 1]
            if len(channels) > 1 or axes.count("Y") != 1 or axes.count("X") != 1:
                raise ValueError(f"has the axes {axes} of {image.shape}, {LAYOUT}")
            check_size(image.shape, most_values)
            check_layout(image.shape[-1:] * 2, image.dtype)
            for page in image.pages:
                check_inflated(encoded, page, image.nbytes)
            others = [place for place, axis in enumerate(axes) if axis not in "YX"]
            values = image.asarray().transpose(axes.index("Y"), axes.index("X"), *others)
    except KeyError as error:  # of a compression
        raise ValueError(f"{error.args[0]}: pip install imagecodecs") from error
    return values.reshape(*values.shape[:2], -1)


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
