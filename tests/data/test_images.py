"""Reading image files of every kind, and what is said of bad ones."""

import numpy as np
import pytest
import torch
from PIL import Image

from botvision.data import decode_image, read_image
from botvision.errors import UserError

RED, GREEN = (255, 0, 0), (0, 255, 0)


def message_of(path, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        read_image(path, *arguments)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message


def save(path, pixels: np.ndarray, mode: str | None = None, **options):
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


@pytest.fixture
def colours() -> np.ndarray:
    """2 x 3 pixels, RGB."""
    return np.array([[RED, GREEN, (0, 0, 255)], [(0, 0, 0), (255, 255, 255), (255, 255, 0)]], dtype=np.uint8)


@pytest.mark.parametrize(
    ("mode", "name"), [("RGB", "a.png"), ("P", "a.png"), ("P", "a.gif"), ("CMYK", "a.tiff"), ("RGB", "a.bmp")]
)
def test_colours_survive_every_way_of_storing_them(tmp_path, colours, mode, name):
    image = read_image(save(tmp_path / name, colours, mode))
    assert image.dtype == torch.uint8
    assert np.array_equal(image.permute(1, 2, 0), colours)


def test_a_cmyk_jpeg_comes_out_in_its_colours(tmp_path):
    pixels = np.full((16, 16, 3), RED, dtype=np.uint8)
    image = read_image(save(tmp_path / "a.jpg", pixels, "CMYK", quality=95))
    assert (image.int() - torch.tensor(RED)[:, None, None]).abs().max() < 12


def test_grey_becomes_three_equal_channels(tmp_path):
    grey = np.array([[0, 100], [200, 255]], dtype=np.uint8)
    assert (read_image(save(tmp_path / "a.png", grey)).numpy() == grey).all()


@pytest.mark.parametrize("name", ["a.png", "a.tiff"])
def test_16_bits_keep_their_upper_half(tmp_path, name):
    grey = np.array([[0, 256], [32768, 65535]], dtype=np.uint16)
    assert (read_image(save(tmp_path / name, grey)).numpy() == [[0, 1], [128, 255]]).all()


def test_transparent_parts_become_white(tmp_path):
    pixels = np.array([[(*RED, 255), (*RED, 0), (0, 0, 0, 128)]], dtype=np.uint8)
    image = read_image(save(tmp_path / "a.png", pixels)).permute(1, 2, 0)
    assert image[0].tolist() == [list(RED), [255, 255, 255], [127, 127, 127]]
    palette = Image.fromarray(pixels[:, :2, :3]).convert("P")
    palette.info["transparency"] = palette.getpixel((0, 0))
    palette.save(tmp_path / "b.png")
    assert (read_image(tmp_path / "b.png") == 255).all()


def test_a_rotation_mark_is_followed_only_where_asked_or_where_the_size_agrees(tmp_path, colours):
    exif = Image.Exif()
    exif[0x0112] = 6  # the stored picture is to be turned clockwise
    path = save(tmp_path / "a.png", colours, exif=exif)
    upright = np.rot90(colours, -1)
    assert np.array_equal(read_image(path).permute(1, 2, 0), colours)
    assert np.array_equal(read_image(path, (2, 3)).permute(1, 2, 0), colours)
    assert np.array_equal(read_image(path, (3, 2)).permute(1, 2, 0), upright)
    assert np.array_equal(read_image(path, apply_exif=True).permute(1, 2, 0), upright)


def test_another_size_than_the_annotations_say_is_named(tmp_path, colours):
    path = save(tmp_path / "a.png", colours)  # without a rotation mark, turned is another size
    message = message_of(path, (3, 2))
    assert "2 high and 3 wide" in message
    assert "3 and 2" in message


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_a_truncated_file_is_named(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    path = save(tmp_path / name, noise)
    path.write_bytes(path.read_bytes()[:-500])
    assert "cannot be read as an image" in message_of(path)


def test_files_that_are_no_images_are_named(tmp_path):
    for content, reason in (("no image", "of no known image format"), ("", "is empty")):
        path = tmp_path / "a.jpg"
        path.write_text(content)
        assert reason in message_of(path)
        with pytest.raises(UserError) as caught:
            decode_image(path.read_bytes(), path)
        assert str(caught.value) == message_of(path)
    assert "directory" in message_of(tmp_path)
    assert "no such image file" in message_of(tmp_path / "b.jpg")
    path = save(tmp_path / "c.tiff", np.ones((2, 2), dtype=np.float32))
    assert "floating-point" in message_of(path)


def test_an_image_that_would_fill_the_memory_is_refused(tmp_path, colours, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2)
    assert "exceeds limit" in message_of(save(tmp_path / "a.png", colours))
