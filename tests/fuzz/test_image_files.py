"""Damaged image files: an image of the size that the header says, or one line; no traceback, no hang, no leak."""

import gc
import io
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from botvision.data import decode_image, read_image
from botvision.data.image_files import image_formats
from botvision.errors import UserError

SAVED = {
    "JPEG": {"quality": 90},
    "JPEG progressive": {"progressive": True},
    "PNG": {},
    "PNG P": {},
    "PNG I;16": {},
    "WEBP": {"lossless": True},
    "WEBP lossy": {},
    "TIFF": {},
    "TIFF LZW": {"compression": "tiff_lzw"},
    "TIFF F": {},
    "GIF": {},
    "BMP": {},
}
"""Format and, in some, the mode of a small image, and how it is saved."""
HEADER = 64
"""Bytes at the beginning of a file that half of the mutations change."""
SLOWEST_MS = 5000
GROWTH = 64 * 2**20
"""Bytes by which memory may grow over hundreds of images, each of which takes a few kilobytes."""


def image_file(kind: str) -> bytes:
    """A small image with an EXIF rotation mark, as a file."""
    name, _, mode = kind.partition(" ")
    pixels = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    if mode in ("P", "I;16", "F"):
        image = image.convert("P") if mode == "P" else image.convert("L").convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    options = {} if name in ("GIF", "BMP") else {"exif": exif}
    image.save(stream, name, **options, **SAVED[kind])
    return stream.getvalue()


FILES = {kind: image_file(kind) for kind in SAVED}


@st.composite
def mutations(draw: st.DrawFn, content: bytes) -> bytes:
    """The content with flipped bits, other bytes, bytes taken out or put in, or cut off."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        last = len(changed) - 1
        place = draw(st.integers(0, last) | st.integers(0, min(HEADER, last)))
        match draw(st.sampled_from(["flip", "byte", "number", "remove", "insert", "cut"])):
            case "flip":
                changed[place] ^= 1 << draw(st.integers(0, 7))
            case "byte":
                changed[place] = draw(st.sampled_from([0, 1, 127, 128, 255]))
            case "number":
                changed[place : place + 4] = draw(st.sampled_from([bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff"]))
            case "remove":
                del changed[place : place + draw(st.integers(1, 8))]
            case "insert":
                changed[place:place] = draw(st.binary(min_size=1, max_size=8))
            case "cut":
                del changed[place:]
        if not changed:
            break
    return bytes(changed)


def size_of(content: bytes) -> tuple[int, int]:
    """Width and height by the header, as Pillow reads it."""
    with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(content), formats=image_formats()) as image:
        return image.size


def check(path: Path, content: bytes) -> None:
    """Reading the content gives an image or one line, from a file and from its bytes."""
    path.write_bytes(content)
    try:
        image = read_image(path)
    except UserError as error:
        assert str(error).startswith(f"{path}: ")
        assert str(error).isprintable()
        assert len(str(error)) < 600
        with pytest.raises(type(error)):
            decode_image(content, path)
        return
    assert (image.dtype, image.shape[0]) == (torch.uint8, 3)
    height, width = image.shape[1:]
    assert size_of(content) in ((width, height), (height, width))
    decoded = decode_image(content, path)
    assert (decoded.mode, decoded.size) == ("RGB", (width, height))


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("images") / "a.image"


@pytest.mark.parametrize("kind", FILES)
@settings(deadline=SLOWEST_MS)
@given(data=st.data())
def test_a_damaged_file_gives_an_image_or_one_line(path, small_limit, kind, data):
    check(path, data.draw(mutations(FILES[kind])))


@pytest.fixture(scope="module")
def small_limit():
    """A small limit, so that a wrong header does not ask for much of the memory of this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOTVISION_MAX_PIXELS", str(4_000_000))
        yield


def resident() -> int:
    """Bytes of memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the memory of a process from /proc")
def test_damaged_files_leave_no_memory_behind(path, small_limit):
    rng = np.random.default_rng(0)
    sizes = []
    for round_ in range(120):
        for content in FILES.values():
            changed = bytearray(content)
            for place in rng.integers(0, len(changed), 2):
                changed[place] = rng.integers(0, 256)
            path.write_bytes(changed)
            with suppress(UserError):
                read_image(path)
        if round_ in (39, 119):
            gc.collect()
            sizes.append(resident())
    assert sizes[1] - sizes[0] < GROWTH
