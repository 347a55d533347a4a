"""Picture files: which images a user means, the names of the pictures drawn of them, and how these are written."""

import logging
import math
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import chain, count
from pathlib import Path
from string import digits

import matplotlib
import numpy as np
import torch
from matplotlib.font_manager import findSystemFonts
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageFont
from torch import Tensor

from botvision.errors import UserError, short
from botvision.files import whole_file

logger = logging.getLogger("botvision")

SIDE = 320
"""Pixels of a photograph's longer side in a picture with text."""
GAP = 8
"""Pixels between the parts of a picture."""
LINE = 24
"""Pixels of a line of text."""
DARKEST_AND_LIGHTEST = (2, 98)
"""Percentiles of a channel that are black and white."""
LOOKED_AT = 2**20
"""Pixels of an image from which these are computed, about."""
OWN_FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


def picture_files(files: Sequence[Path], out: Path) -> list[Path]:
    """Where the picture of each image goes.

    Raises:
        UserError: the folder is one of the images' own. A picture could overwrite an image, and the next prediction on
            that folder would take the pictures for images.
    """
    for file in files:
        if out.resolve() in (file.parent.resolve(), file.resolve().parent):
            raise UserError(f"{out}: holds the image {file}, pictures would mix with it; choose another folder")
    return [out / name for name in picture_names(files)]


def check_overwritten(files: Iterable[Path], pictures: Iterable[Path]) -> None:
    """Raise a UserError if a picture would be written over one of the images."""
    overwritten = {file.resolve() for file in files} & {picture.resolve() for picture in pictures}
    if overwritten:
        first = min(overwritten)
        raise UserError(f"{first} would be overwritten by its picture; choose another folder than {first.parent}")


def picture_names(files: Sequence[Path]) -> list[str]:
    """A file name for the picture of each image; of several images of one name, all but the first get a number.

    Names that differ in case alone are one name: on many file systems they are one file.
    """
    taken: set[str] = set()
    names = []
    for file in files:
        candidates = chain([file.stem], (f"{file.stem}-{number}" for number in count(2)))
        name = next(candidate for candidate in candidates if candidate.lower() not in taken)
        taken.add(name.lower())
        names.append(f"{name}.png")
    return names


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture to a temporary name, then rename it; the suffix says the format."""
    with whole_file(path) as temporary:
        picture.save(temporary)


@cache
def font(size: int, file: Path | None = None) -> ImageFont.FreeTypeFont:
    """A font in pixels; by default matplotlib's, because Pillow's own has only the letters of English."""
    return ImageFont.truetype(str(file or OWN_FONT), size)  # Pillow 10.0 takes no Path


def font_for(text: str, size: int) -> ImageFont.FreeTypeFont | None:
    """A font that has the letters of a text: ours, else an installed one; None, and a warning, where there is none."""
    file = file_for(text)
    return font(size, file) if file else None


@cache
def file_for(text: str) -> Path | None:
    """The file of the font for a text, with the digits that stand beside it.

    Ours has the letters of Europe and of Arabic, but not those of East Asia.
    """
    shown = (letter for letter in f"{text}{digits}.%" if not letter.isspace())
    needed = {ord(letter) for letter in shown if unicodedata.category(letter) != "Cf"}  # as joiners of letters
    if needed <= letters_in(OWN_FONT):
        return OWN_FONT
    for file in map(Path, sorted(findSystemFonts())):
        if needed <= letters_in(file):
            return file
    logger.warning("no font here has all letters of %s; install one that has, such as Noto Sans CJK", short(text))
    return None


@cache
def letters_in(file: Path) -> frozenset[int]:
    """The letters of a font; none of one that cannot be read, or has letters of fixed sizes."""
    try:
        font(20, file)
        return frozenset(FT2Font(str(file)).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


def fitting(text: str, letters: ImageFont.FreeTypeFont, room: float) -> str:
    """A text, cut where it is wider than the room for it, in pixels."""
    if letters.getlength(text) <= room:
        return text
    cut = bisect_right(range(1, len(text)), room, key=lambda count: letters.getlength(f"{text[:count]}..."))
    return f"{text[:cut]}..."


def picture_of(image: Tensor) -> Image.Image:
    """An image as a picture.

    Of an image as stored, float32 (C, H, W), the first three channels are red, green and blue, or the first one is grey
    where there are fewer; each from black to white between its :data:`DARKEST_AND_LIGHTEST` values. An image (3, H, W)
    uint8 stays as it is.
    """
    if image.dtype == torch.uint8:
        return Image.fromarray(image.permute(1, 2, 0).cpu().numpy())
    shown = (image[:3] if len(image) >= 3 else image[:1].expand(3, -1, -1)).cpu().numpy()
    step = max(1, math.isqrt(shown[0].size // LOOKED_AT))
    ends = np.percentile(shown[:, ::step, ::step], DARKEST_AND_LIGHTEST, axis=(1, 2), keepdims=True)
    shares = (shown - ends[0]) / np.maximum(ends[1] - ends[0], np.finfo(np.float32).tiny)
    return Image.fromarray(np.moveaxis((255 * shares.clip(0, 1)).round().astype(np.uint8), 0, 2).copy())


def resized(image: Tensor) -> Image.Image:
    """An image, see :func:`picture_of`, as a picture whose longer side has :data:`SIDE` pixels."""
    picture = picture_of(image)
    scale = SIDE / max(picture.size)
    return picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
