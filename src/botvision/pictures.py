"""Picture files: which images a user means, the names of the pictures drawn of them, and how these are written."""

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import chain, count
from pathlib import Path

import matplotlib
from PIL import Image, ImageFont
from torch import Tensor

from botvision.errors import UserError
from botvision.files import whole_file

SIDE = 320
"""Pixels of a photograph's longer side in a picture with text."""
GAP = 8
"""Pixels between the parts of a picture."""
LINE = 24
"""Pixels of a line of text."""


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
def font(size: int) -> ImageFont.FreeTypeFont:
    """The font of all pictures, in pixels: matplotlib's, because Pillow's own has only the letters of English."""
    file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(file), size)  # Pillow 10.0 takes no Path


def resized(image: Tensor) -> Image.Image:
    """An image (3, H, W) uint8 as a picture whose longer side has :data:`SIDE` pixels."""
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    scale = SIDE / max(picture.size)
    return picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
