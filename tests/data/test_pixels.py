"""Pixels of every kind become RGB with 8 bits: contrast is kept by the documented rule, or a warning says why not."""

import logging
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from botvision.data import pixels, read_image
from botvision.errors import UserError

STORED = (("a.png", np.uint16), ("a.tif", np.uint16), ("a.tif", np.int32))


@pytest.fixture(autouse=True)
def no_warnings_before(monkeypatch):
    monkeypatch.setattr(pixels, "_warned", set())


def grey_of(path, values: np.ndarray) -> np.ndarray:
    """What is read of grey values that are saved as they are."""
    Image.fromarray(values).save(path)
    image = read_image(path).numpy()
    assert (image == image[:1]).all()
    return image[0]


def ramp(high: float, dtype: type) -> np.ndarray:
    return np.linspace(0, high, 64 * 8).reshape(8, 64).astype(dtype)


@pytest.mark.parametrize(
    ("name", "dtype", "bits"),
    [(name, dtype, bits) for name, dtype in STORED for bits in (8, 10, 12, 14, 16)]
    + [("a.tif", np.float32, 8), ("a.tif", np.float32, 12)],
)  # fmt: skip
def test_grey_values_of_any_depth_keep_their_contrast(tmp_path, caplog, name, dtype, bits):
    values = ramp(2**bits - 1, dtype)
    grey = grey_of(tmp_path / name, values)
    assert (grey.min(), grey.max()) == (0, 255)
    assert np.abs(grey - values / (2**bits - 1) * 255).max() < 1.01
    assert not caplog.records


def test_big_endian_16_bits_are_read_as_little_endian_ones(tmp_path):
    values = ramp(65535, np.uint16)
    frombytes = Image.frombytes("I;16B", (64, 8), values.astype(">u2").tobytes())
    frombytes.save(tmp_path / "a.tif")
    assert np.array_equal(read_image(tmp_path / "a.tif")[0], values >> 8)


def test_floats_from_0_to_1_and_what_is_not_finite(tmp_path):
    values = ramp(1, np.float32)
    assert np.array_equal(grey_of(tmp_path / "a.tif", values), np.floor(values.astype(float) * 255 + 0.5))
    values[0, :3] = np.nan, np.inf, -np.inf  # the smallest one left is the fourth
    assert grey_of(tmp_path / "a.tif", values)[0, 0] == 0
    assert grey_of(tmp_path / "a.tif", values)[0, 1:4].tolist() == [255, 1, 1]
    assert (grey_of(tmp_path / "a.tif", np.full((2, 2), np.nan, np.float32)) == 0).all()


@pytest.mark.parametrize("high", [1.0001, 1.5, 15.9, 255.5, 270])
@pytest.mark.parametrize("band", [64, 2**20])
def test_floats_that_may_be_meant_from_0_to_1_or_to_255_are_refused(tmp_path, monkeypatch, high, band):
    monkeypatch.setattr(pixels, "BAND", band)
    Image.fromarray(ramp(high, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(
        UserError, match=rf"a\.tif: .*its values from 0 to {high} are neither from 0 to (1|255) nor clearly"
    ) as error:
        read_image(tmp_path / "a.tif")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("high", [2, 15, 16.5, 254.5, 255])
def test_floats_that_are_clearly_from_0_to_255_are_taken_as_they_are(tmp_path, high):
    values = ramp(high, np.float32) if high > 16 else np.arange(high + 1, dtype=np.float32)[None]
    assert np.array_equal(grey_of(tmp_path / "a.tif", values), np.floor(values.astype(np.float64) + 0.5))


@pytest.mark.parametrize("values", [ramp(1, np.float32) * 300 - 100, (ramp(1, float) * 2**31 - 2**30).astype(np.int32)])
def test_other_values_are_stretched_with_a_warning_that_names_file_and_range(tmp_path, caplog, values):
    with caplog.at_level(logging.WARNING, "botvision"):
        grey = grey_of(tmp_path / "a.tif", values)
        read_image(tmp_path / "a.tif")
    span = values.astype(float) - values.min()
    assert np.abs(grey - span / span.max() * 255).max() < 1.01
    [record] = caplog.records
    assert all(
        part in record.getMessage()
        for part in (str(tmp_path / "a.tif"), f"{float(values.min()):g}", f"{float(values.max()):g}")
    )


def png(values: np.ndarray, kind: int) -> bytes:
    """A PNG with 16 bits a channel, which Pillow cannot write in colour."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("bits", "warned"), [(12, True), (16, False)])
def test_colours_of_16_bits_that_use_few_of_them_are_warned_of(tmp_path, caplog, bits, warned):
    values = np.random.default_rng(0).integers(0, 2**bits, (8, 8, 3))
    (tmp_path / "a.png").write_bytes(png(values, kind=2))
    assert np.array_equal(read_image(tmp_path / "a.png").permute(1, 2, 0), values >> 8)
    assert [str(tmp_path / "a.png") in record.getMessage() for record in caplog.records] == [True] * warned


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I", "F"])
@settings(max_examples=20)
@given(width=st.integers(1, 9), height=st.integers(1, 9), band=st.integers(1, 40))
def test_bands_of_rows_give_what_the_whole_image_gives(mode, width, height, band):
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 4), dtype=np.uint8)
    image = Image.fromarray(noise)
    if mode == "PA":
        image = image.convert("RGB").convert("P").convert("PA")
    elif mode == "LAB":
        image = Image.frombytes("LAB", (width, height), noise[..., :3].tobytes())
    elif mode != "RGBA":
        image = image.convert("L" if mode in ("I;16", "I", "F") else "RGB").convert(mode)
    with pytest.MonkeyPatch.context() as patch:
        whole = pixels.to_array(pixels.to_rgb(image, "a"))
        patch.setattr(pixels, "BAND", band)
        assert np.array_equal(pixels.to_array(pixels.to_rgb(image, "a")), whole)
    if mode in ("1", "L", "P", "RGB", "CMYK", "YCbCr"):
        assert np.array_equal(whole, np.asarray(image.convert("RGB")))


def test_lab_has_the_colours_of_its_definition():
    """CIE 1976, white D50; to linear sRGB by Bradford's matrix, then its curve."""
    lab = np.stack(np.meshgrid([30, 50, 70], [-20, 0, 20], [-20, 0, 20]), axis=-1).reshape(1, -1, 3).astype(float)
    f_y = (lab[..., 0] + 16) / 116
    f = np.stack([f_y + lab[..., 1] / 500, f_y, f_y - lab[..., 2] / 200], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * [0.9642, 1.0, 0.8249]
    matrix = [[3.1339, -1.6169, -0.4906], [-0.9785, 1.9160, 0.0333], [0.0720, -0.2290, 1.4057]]
    linear = xyz @ np.transpose(matrix)
    shown = ((linear > 0.03) & (linear < 1)).all(axis=-1)  # others are out of sRGB's range
    linear = linear.clip(0, 1)
    expected = 255 * np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
    stored = np.round(lab * [255 / 100, 1, 1]).astype(int).astype(np.uint8)  # TIFF stores a and b with a sign
    image = Image.frombytes("LAB", (stored.shape[1], 1), stored.tobytes())
    assert shown.sum() > 15
    assert np.abs(np.asarray(pixels.to_rgb(image, "a")) - expected)[shown].max() < 3
