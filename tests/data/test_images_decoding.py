"""The bytes of an image file become the same pixels whichever decoder is taken."""

import io

import numpy as np
import pytest
from PIL import Image

from botvision.data import UnreadableImage, decode_image, read_image

ORIENTATION = 0x0112


@pytest.fixture
def picture() -> Image.Image:
    """24 x 40 pixels with soft colours, which JPEG keeps."""
    y, x = np.mgrid[:24, :40]
    return Image.fromarray(np.stack([y * 10, x * 6, 255 - y * 5 - x * 3], axis=2).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def exif(orientation: int) -> Image.Exif:
    marks = Image.Exif()
    marks[ORIENTATION] = orientation
    return marks


def pillow(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 2}, {"quality": 20}])
def test_jpegs_have_the_pixels_that_pillow_gives(picture, mode, options):
    content = encoded(picture.convert(mode), "JPEG", **options)
    image = decode_image(content, "a.jpg")
    assert image.mode == "RGB"
    assert np.array_equal(image, pillow(content))


def test_a_jpeg_stored_as_rgb_keeps_its_colours(picture):
    content = encoded(picture, "JPEG", keep_rgb=True, quality=95)
    assert np.array_equal(decode_image(content, "a.jpg"), pillow(content))


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1"])
def test_other_formats_are_read_as_read_image_reads_them(tmp_path, picture, kind, mode):
    path = tmp_path / "a"
    path.write_bytes(encoded(picture.convert(mode), kind))
    expected = read_image(path).permute(1, 2, 0)
    assert np.array_equal(decode_image(path.read_bytes(), path), expected)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_rotation_marks_are_followed(tmp_path, picture, kind, orientation):
    content = encoded(picture, kind, exif=exif(orientation))
    stored = pillow(content)
    turned = [None, stored, stored[:, ::-1], stored[::-1, ::-1], stored[::-1]]
    turned += [stored.swapaxes(0, 1), np.rot90(stored, -1), stored[::-1, ::-1].swapaxes(0, 1), np.rot90(stored)]
    assert np.array_equal(decode_image(content, "a"), turned[orientation])


def test_damaged_marks_do_not_make_an_image_unreadable(picture, recwarn):
    content = encoded(picture, "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff and nonsense")
    image = decode_image(content, "a.jpg")
    assert not recwarn.list
    with pytest.warns(UserWarning, match="Corrupt EXIF"):
        assert np.array_equal(image, pillow(content))


def test_16_bits_keep_their_upper_half():
    content = encoded(Image.fromarray(np.array([[0, 256], [32768, 65535]], dtype=np.uint16)), "PNG")
    assert (np.asarray(decode_image(content, "a.png")) == np.array([[0, 1], [128, 255]])[:, :, None]).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("kept", [0, 1, 0.1, 0.5, 0.95])
def test_truncated_files_are_named(picture, kind, kept):
    content = encoded(picture.resize((200, 120)), kind)
    content = content[: kept if isinstance(kept, int) else int(kept * len(content))]
    with pytest.raises(UnreadableImage, match=r"^folder/a.jpg: cannot be read as an image \(.+\)"):
        decode_image(content, "folder/a.jpg")


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_an_image_that_would_fill_the_memory_is_refused(picture, kind, monkeypatch):
    content = encoded(picture, kind)
    monkeypatch.setenv("BOTVISION_MAX_PIXELS", str(24 * 40))
    decode_image(content, "a")
    monkeypatch.setenv("BOTVISION_MAX_PIXELS", str(24 * 40 - 1))
    with pytest.raises(UnreadableImage, match=r"959.* BOTVISION_MAX_PIXELS .*40 x 24"):
        decode_image(content, "a")
