"""Images in every form that programs hold them in are the pixels of their file."""

import numpy as np
import pytest
import torch
from PIL import Image

from botvision.data import pixels_of, read_image, separated
from botvision.errors import UserError


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    """A photograph that is stored lying and marked to be turned (EXIF orientation 6)."""
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    path = tmp_path_factory.mktemp("any") / "a.png"
    Image.fromarray(pixels).save(path, exif=exif)
    return path


def test_every_form_of_a_photograph_gives_the_same_pixels(photograph):
    pixels = read_image(photograph)
    assert pixels.shape == (3, 30, 20)
    upright = pixels.permute(1, 2, 0).numpy()
    forms = {
        "text": str(photograph),
        "path": photograph,
        "not decoded": Image.open(photograph),
        "array": upright,
        "with alpha": np.dstack([upright, np.full((30, 20), 255, np.uint8)]),
        "floats": upright.astype(np.float64) / 255,
        "tensor": pixels,
        "float tensor": pixels.double() / 255,
        "on other strides": upright[::-1][::-1],
    }
    for name, form in forms.items():
        assert torch.equal(pixels_of(form), pixels), name


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "I;16", "F"])
def test_images_of_any_mode_are_those_of_their_file(mode, tmp_path):
    made = Image.radial_gradient("L").resize((24, 16))
    image = {"I;16": made.convert("I;16"), "F": made.convert("F")}.get(mode) or made.convert("RGBA").convert(mode)
    image.save(tmp_path / "a.tif")
    assert torch.equal(pixels_of(image), read_image(tmp_path / "a.tif"))


def test_grey_is_the_same_in_all_channels(photograph):
    grey = np.random.default_rng(1).integers(0, 256, (5, 7), dtype=np.uint8)
    expected = torch.from_numpy(grey).expand(3, -1, -1)
    for form in (grey, grey[:, :, None], torch.from_numpy(grey)[None], grey.astype(np.uint16)):
        assert torch.equal(pixels_of(form), expected)
    deep = grey.astype(np.uint16) * 257  # 16 bits keep their upper 8
    deep[0, 0] = 65535
    assert torch.equal(pixels_of(deep)[:, 1:], expected[:, 1:])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4", ">f8"])
@pytest.mark.parametrize("shape", [(16, 16), (16, 16, 1)])
@pytest.mark.parametrize("white", [1, 255])
def test_grey_floats_of_every_type_are_scaled_alike(dtype, shape, white):
    grey = np.random.default_rng(1).permutation(256).astype(np.uint8)
    floats = (grey.astype(np.float64) * (white / 255)).astype(dtype).reshape(shape)
    assert np.array_equal(pixels_of(floats), np.stack([grey.reshape(16, 16)] * 3))


def test_grey_of_16_bits_is_taken_in_both_orders_of_bytes():
    deep = np.random.default_rng(1).integers(0, 65536, (9, 7)).astype(np.uint16)
    deep[0, 0] = 65535
    for order in "<>":
        assert np.array_equal(pixels_of(deep.astype(f"{order}u2"))[0], deep >> 8)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((3, 20, 20), np.uint8), r"\(H, W, 3\)"),
        (np.zeros((20, 20, 3), np.int64), "int64"),
        (np.zeros((0, 20, 3), np.uint8), r"\(0, 20, 3\)"),
        (np.full((20, 20), 1.5), "values from 1.5 to 1.5 are neither from 0 to 1 nor"),
        (np.full((20, 20, 1), 1.5), "values from 1.5 to 1.5 are neither from 0 to 1 nor"),
        (np.zeros((20, 20), np.complex64), "complex64"),
        (np.full((20, 20, 3), 255.0), "0 to 255 as uint8"),
        (torch.full((3, 4, 4), float("nan")), "from 0 to 1"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), "int64"),
        (torch.zeros(4, 4, 3, dtype=torch.uint8), r"\(3, H, W\)"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), r"\(2, 3, 4, 4\)"),
        (None, "NoneType"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(image, message):
    with pytest.raises(UserError, match=message) as error:
        pixels_of(image)
    assert "\n" not in str(error.value)


def test_a_file_that_is_cut_off_and_an_image_that_is_too_large_are_refused(photograph, tmp_path, monkeypatch):
    (tmp_path / "half.png").write_bytes(photograph.read_bytes()[:800])
    with pytest.raises(UserError, match=r"the image: cannot be read"):
        pixels_of(Image.open(tmp_path / "half.png"))
    monkeypatch.setenv("BOTVISION_MAX_PIXELS", "599")
    with pytest.raises(UserError, match="599"):
        pixels_of(Image.open(photograph))


def test_batches_are_told_from_single_images():
    array = np.zeros((2, 4, 5, 3), np.uint8)
    for image in ("a.jpg", array[0], torch.zeros(3, 4, 5), Image.new("RGB", (3, 3))):
        assert separated(image)[1]
        assert separated(iter([image, image])) == ([image, image], False)
    for batch in (array, torch.zeros(2, 3, 4, 5)):
        images, is_one = separated(batch)
        assert (len(images), is_one, images[0].ndim) == (2, False, 3)
    with pytest.raises(UserError, match="int"):
        separated(3)
