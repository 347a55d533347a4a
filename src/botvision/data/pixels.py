"""Pixels of every kind as RGB with 8 bits a channel, a band of rows at a time: large images need little more memory."""

import logging
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms
from torch.utils.data import get_worker_info

logger = logging.getLogger("botvision")

BAND = 2**20
"""Pixels that are converted at a time."""
DEPTHS = (8, 10, 12, 14, 16)
"""Bits of grey values that cameras and scanners have."""
UNCLEAR = {(1, 16): "from 0 to 1 nor clearly from 0 to 255", (255, 272): "from 0 to 255 nor clearly of more bits"}
"""What the largest of floating-point numbers is between, both excluded, where it does not tell their white."""
FEW_LEVELS = 64
"""Of 256. Colours of 16 bits below this were meant to have 14 bits or fewer."""
MOST_WARNINGS = 100

_warned: set[str] = set()


def bands(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """The image in bands of whole rows, each with the row at which it begins."""
    rows = max(1, BAND // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def to_array(image: Image.Image) -> np.ndarray:
    """An RGB image as uint8 (H, W, 3); NumPy's own conversion takes three times as much memory."""
    pixels = np.empty((image.height, image.width, 3), dtype=np.uint8)
    for top, band in bands(image):
        pixels[top : top + band.height] = np.asarray(band)
    return pixels


def to_rgb(image: Image.Image, name: str | Path) -> Image.Image:
    """An image as RGB with 8 bits a channel, decoded; transparent parts become white.

    Grey values that have more than 8 bits (integers of 16 or 32 bits, floating-point numbers) keep their contrast:

    - whole numbers from 0 on: their upper 8 bits, counted from the smallest of 8, 10, 12, 14 and 16 bits that holds the
      largest value of the image. Values up to 4095 have 12 bits, which are divided by 16;
    - floating-point numbers from 0 to 1: 1 is white; larger ones from 0 on are treated as whole numbers. They are
      refused where the largest is a little above 1 or 255, see `UNCLEAR`, and not all are whole;
    - others: from the image's smallest value, black, to its largest, white, with a warning that names both.

    Pillow gives the upper 8 bits of colours that have 16; where these are all small, a warning says so.

    Args:
        image: from Pillow, of any mode.
        name: of the file, for warnings.

    Raises:
        ValueError: floating-point numbers of which it is not clear whether white is 1 or 255.
    """
    deep_colours = any(";16" in str(tile) for tile in getattr(image, "tile", ()))
    image.load()
    if image.mode == "RGB":
        converted = image
    else:
        convert = _conversion(image, name)
        converted = Image.new("RGB", image.size)
        for top, band in bands(image):
            converted.paste(convert(band), (0, top))
    if deep_colours and not _is_deep_grey(image):
        highest = max(high for _, high in converted.getextrema())  # type: ignore[misc]
        if highest < FEW_LEVELS:
            warn_once(
                name, f"its colours of 16 bits are dark, from 0 to {256 * highest + 255} of 65535; save it with 8"
            )
    return converted


def _conversion(image: Image.Image, name: str | Path) -> Callable[[Image.Image], Image.Image]:
    """What makes a band of the image RGB."""
    if _is_deep_grey(image):
        return _grey_scale(image, name)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        return _on_white
    if image.mode == "LAB":
        return _from_lab
    return lambda band: band.convert("RGB")


def _is_deep_grey(image: Image.Image) -> bool:
    return image.mode.startswith("I") or image.mode == "F"


def _on_white(band: Image.Image) -> Image.Image:
    seen = band.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("RGB")


def _from_lab(band: Image.Image) -> Image.Image:
    return ImageCms.applyTransform(band, _lab_to_srgb())  # type: ignore[return-value]


@cache
def _lab_to_srgb() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")


def _grey_scale(image: Image.Image, name: str | Path) -> Callable[[Image.Image], Image.Image]:
    """Makes 8 bits of deep grey values, by the rule of `to_rgb`."""
    low, high, are_whole = np.inf, -np.inf, True
    for _, band in bands(image):
        values = np.asarray(band)
        values = values[np.isfinite(values)]
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
            are_whole = are_whole and bool((values == np.floor(values)).all())
    for (least, most), ranges in UNCLEAR.items():
        if low >= 0 and least < high < most and not are_whole:
            raise ValueError(f"its values from {low:.7g} to {high:.7g} are neither {ranges}")
    black, scale = 0.0, 0.0
    if image.mode == "F" and low >= 0 and high <= 1:
        scale = 255.0
    elif low >= 0 and high < 2 ** DEPTHS[-1]:
        scale = 2.0 ** (8 - next(depth for depth in DEPTHS if high < 2**depth))
    elif low < high:
        black, scale = low, 255 / (high - low)
        warn_once(name, f"its values from {low:g} to {high:g} are shown from black to white; save it with 8 or 16 bits")

    def convert(band: Image.Image) -> Image.Image:
        values = np.nan_to_num(np.asarray(band, dtype=np.float64), nan=black, posinf=high, neginf=low)
        grey = (values - black) * scale
        return Image.fromarray((grey if scale < 1 else grey + 0.5).clip(0, 255).astype(np.uint8)).convert("RGB")

    return convert


def warn_once(name: str | Path, problem: str) -> None:
    """Warn once of a file, and of a few files; of several processes that read images only the first one warns."""
    worker = get_worker_info()
    if str(name) not in _warned and len(_warned) < MOST_WARNINGS and (worker is None or worker.id == 0):
        _warned.add(str(name))
        logger.warning("%s: %s", name, problem)
