"""Reading image files of every kind, and what is said of bad ones."""

import logging
import multiprocessing
import os
import resource
import struct
import subprocess
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from botvision.data import CocoDetection, decode_image, read_image
from botvision.data.images import warn_of_rotation_marks
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


def marked(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_upright_unless_the_annotated_size_is_that_of_the_stored_pixels(tmp_path, colours, orientation):
    path = save(tmp_path / "a.png", colours, exif=marked(orientation))
    upright = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    for size in (None, upright.shape[:2]):
        assert np.array_equal(read_image(path, size).permute(1, 2, 0), upright)
    assert np.array_equal(decode_image(path.read_bytes(), path), upright)
    stored = colours if orientation > 4 else upright  # half turns and mirrors do not change the size
    assert np.array_equal(read_image(path, (2, 3)).permute(1, 2, 0), stored)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])  # two decoders
@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiff_images_are_turned_once(tmp_path, colours, orientation, compression):
    path = save(tmp_path / "a.tif", colours, tiffinfo={0x0112: orientation}, compression=compression)
    upright = np.asarray(ImageOps.exif_transpose(save_and_open(tmp_path / "a.png", colours, orientation)))
    assert np.array_equal(read_image(path).permute(1, 2, 0), upright)


def save_and_open(path, pixels: np.ndarray, orientation: int) -> Image.Image:
    return Image.open(save(path, pixels, exif=marked(orientation)))


def test_images_whose_frame_the_size_does_not_tell_are_counted_in_one_warning(tmp_path, colours, caplog):
    wide, square = np.repeat(colours, 4, axis=1), np.repeat(colours[:, :2], 4, axis=1).repeat(4, axis=0)
    files = []
    for number, (pixels, size, orientation) in enumerate(
        [(wide, (2, 12), mark) for mark in (1, 2, 3, 4, 6)]
        + [(wide, (12, 2), 8), (square, (8, 8), 6), (square, (8, 8), 1)]
    ):
        path = save(tmp_path / f"{number}.{'jpg' if number % 2 else 'png'}", pixels, exif=marked(orientation))
        files.append((path, size))
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    with caplog.at_level(logging.WARNING, "botvision"):
        warn_of_rotation_marks(tmp_path / "instances.json", [*files, (tmp_path / "bad.jpg", (2, 2))])
        warn_of_rotation_marks(tmp_path / "instances.json", files[:1])
        warn_of_rotation_marks(tmp_path / "instances.json", [])
    [record] = caplog.records
    assert all(part in record.getMessage() for part in ("instances.json", "4 of 9", str(files[1][0])))


def test_a_data_set_in_the_upright_frame_of_a_half_turn_is_read_so(tmp_path, write_coco, caplog):
    folder = write_coco()
    path = folder / "train2017" / "a.png"
    upright = np.asarray(Image.open(path))
    save(path, upright[::-1, ::-1], exif=marked(3))
    image, _ = CocoDetection(folder, "train")[0]
    assert np.array_equal(image.permute(1, 2, 0), upright)
    assert "1 of 2" in caplog.text


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


@pytest.mark.parametrize(("kind", "content"), [("EPS", None), ("PDF", None), ("EPS", b"%!PS-Adobe-3.0 EPSF-3.0\n")])
def test_documents_named_like_images_start_no_program(tmp_path, monkeypatch, colours, kind, content):
    path = tmp_path / "a.jpg"
    Image.fromarray(colours).save(path, kind)
    if content:
        path.write_bytes(content + b"%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    for name in ("Popen", "check_call", "run"):
        monkeypatch.setattr(subprocess, name, None)
    message = message_of(path)
    assert "of no known image format" in message and "JPEG" in message


def test_pipes_and_devices_are_refused_before_they_are_opened(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("/dev/zero")
    for name in ("a.png", "b.png"):
        assert "pipe" in message_of(tmp_path / name)


def test_a_file_larger_than_any_image_is_refused_before_it_is_read(tmp_path, monkeypatch):
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(2**40)
    assert str(2**40) in message_of(tmp_path / "a.png")


@pytest.mark.parametrize("setting", ["none", "0", "-5", "1e6", "9" * 5000 + "x"])
def test_a_limit_that_is_no_number_is_named(tmp_path, colours, monkeypatch, setting):
    monkeypatch.setenv("BOTVISION_MAX_PIXELS", setting)
    with pytest.raises(UserError, match=r"^BOTVISION_MAX_PIXELS: ") as caught:
        read_image(save(tmp_path / "a.png", colours))
    assert len(str(caught.value)) < 200


def memory_of(path) -> tuple[str, int]:
    """What reading a file in a process of its own gives, and how many MiB more it then takes."""
    results = multiprocessing.get_context("fork").SimpleQueue()

    def read() -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            result = str(tuple(read_image(path).shape))
        except UserError as error:
            result = str(error)
        results.put((result, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024))

    process = multiprocessing.get_context("fork").Process(target=read)
    process.start()
    process.join()
    return results.get()


@pytest.mark.parametrize(("mode", "side"), [("RGBA", 13_000), ("1", 40_000)])
def test_a_small_file_of_a_large_image_is_refused_by_its_header(tmp_path, mode, side):
    header = struct.pack(">IIBBBBB", side, side, 8 if mode == "RGBA" else 1, 6 if mode == "RGBA" else 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(10**7))), (b"IEND", b"")]
    content = b"".join(
        struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part)) for name, part in chunks
    )
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    message, peak = memory_of(tmp_path / "bomb.png")
    assert "BOTVISION_MAX_PIXELS" in message
    assert peak < 50


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "name"), [("RGB", "a.jpg"), ("RGBA", "a.png")])
def test_a_photograph_of_100_megapixels_is_read_in_less_than_1500_mb(tmp_path, mode, name):
    Image.new(mode, (11_648, 8_736), "red").save(tmp_path / name, exif=marked(6), compress_level=1)
    shape, peak = memory_of(tmp_path / name)
    assert shape == "(3, 11648, 8736)"
    assert peak < 1500
