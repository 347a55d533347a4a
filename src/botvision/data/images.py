"""Image files: reading any of them as RGB, and finding the missing ones before a long run does."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from botvision.errors import UserError

PIXEL_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
PIXEL_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)
"""ImageNet's mean and standard deviation of a channel, in 8-bit units."""

EXIF_ORIENTATION = 0x0112
QUARTER_TURNS = range(5, 9)  # the EXIF orientations that exchange height and width


def read_image(path: Path, expected_size: tuple[int, int] | None = None, *, apply_exif: bool = False) -> Tensor:
    """Read an image file as RGB, uint8, shape (3, H, W).

    Grey, palette, CMYK and 16-bit images are converted; transparent parts become white.

    Args:
        path: any format that Pillow reads; of an animation, the first frame.
        expected_size: (H, W) in pixels that the annotations give. Annotations are made on the stored pixels, so a
            camera's rotation mark (EXIF) is followed only where the stored size differs and the rotated one agrees.
        apply_exif: without an `expected_size`, whether to turn the image as its rotation mark says. Prediction does,
            so that a photograph is seen upright as every viewer shows it.

    Raises:
        UserError: the file is missing, damaged, of no known format, suspiciously large, or not of `expected_size`.
    """
    try:
        with Image.open(path) as opened:
            image = _turned(opened, expected_size, apply_exif)
            if expected_size is not None and _size(image) != expected_size:
                raise UserError(
                    f"{path}: the image is {image.height} high and {image.width} wide, "
                    f"but its annotations say {expected_size[0]} and {expected_size[1]}"
                )
            pixels = _rgb(image)
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such image file") from error
    except Exception as error:  # decoders raise nearly anything on damaged bytes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: cannot be read as an image ({reason}); replace the file") from error
    return torch.from_numpy(pixels).permute(2, 0, 1)


def check_image_files(folder: Path, names: Iterable[str]) -> None:
    """Check that every file exists, holds something and lies inside `folder`; one pass over each folder named.

    Args:
        folder: the image folder.
        names: paths relative to `folder`.

    Raises:
        UserError: names the first bad file and says how many there are.
    """
    root = folder.resolve()
    by_folder: dict[str, set[str]] = {}
    for name in names:
        parent, _, last = name.rpartition("/")
        by_folder.setdefault(parent, set()).add(last)
    missing: list[Path] = []
    empty: list[Path] = []
    for parent, wanted in by_folder.items():
        inside = folder / parent
        _check_inside(inside, root)
        present = _scan(inside, wanted, root, empty)
        missing += [inside / name for name in wanted - present]
    for what, files in (("missing", missing), ("empty", empty)):
        if files:
            raise UserError(f"{min(files)}: image file is {what} ({len(files)} such in all); restore or download it")


def _scan(folder: Path, wanted: set[str], root: Path, empty: list[Path]) -> set[str]:
    """Which of the wanted files are in `folder`; those of no bytes are added to `empty`."""
    if not folder.is_dir():
        return set()
    present = set()
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name not in wanted:
                continue
            if entry.is_symlink():
                _check_inside(Path(entry.path), root)
            if entry.is_file():
                present.add(entry.name)
                if entry.stat().st_size == 0:
                    empty.append(Path(entry.path))
    return present


def _check_inside(path: Path, root: Path) -> None:
    if not path.resolve().is_relative_to(root):
        raise UserError(f"{path}: is a link to a place outside the image folder {root}; put the file itself there")


def _size(image: Image.Image) -> tuple[int, int]:
    return image.height, image.width


def _turned(image: Image.Image, expected_size: tuple[int, int] | None, apply_exif: bool) -> Image.Image:
    """The image in the frame that the caller means; see `read_image`."""
    if expected_size is None:
        return ImageOps.exif_transpose(image) if apply_exif else image
    turned_size = (image.width, image.height)
    if _size(image) != expected_size == turned_size and image.getexif().get(EXIF_ORIENTATION) in QUARTER_TURNS:
        return ImageOps.exif_transpose(image)
    return image


def _rgb(image: Image.Image) -> np.ndarray:
    """Pixels as RGB, uint8, shape (H, W, 3), writable."""
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow's own conversion would clip at 255
        grey = (np.clip(np.asarray(image), 0, 65535) // 256).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers; save it with 8 or 16 bits")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        seen = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen)
    return np.array(image.convert("RGB"))
