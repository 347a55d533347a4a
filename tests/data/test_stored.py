"""Images as stored: every number of a file written by NumPy, tifffile or Pillow comes back, and bad files are named."""

import io
import resource
import struct
import zlib
from functools import partial

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from botvision.data import find_images, pixels_of, read_image
from botvision.data.pixel_statistics import common_channels
from botvision.data.stored import stored_channels
from botvision.errors import UserError

HEIGHT, WIDTH = 6, 9
PLANES = partial(np.moveaxis, source=2, destination=0)


def values(channels: int, dtype="uint16") -> np.ndarray:
    """(H, W, channels), over the whole range of an integer type."""
    generator = np.random.default_rng(channels)
    if np.dtype(dtype).kind == "f":
        return (1000 * generator.normal(size=(HEIGHT, WIDTH, channels))).astype(dtype)
    limits = np.iinfo(dtype)
    return generator.integers(limits.min, limits.max, (HEIGHT, WIDTH, channels), dtype, endpoint=True)


def write_tiff(path, array, **options):
    tifffile.imwrite(path, array, photometric="minisblack", **options)
    return path


def write_pages(path, array, **options):
    """A page for each channel, written one by one, the last one compressed."""
    with tifffile.TiffWriter(path) as file:
        for number, page in enumerate(PLANES(array), start=1):
            compression = "zlib" if number == array.shape[2] else None
            file.write(page, photometric="minisblack", compression=compression, **options)


def write_pages_of_pillow(path, array):
    first, *others = map(Image.fromarray, PLANES(array))
    first.save(path, save_all=True, append_images=others)


WRITERS = {
    "array": lambda path, array: np.save(path.with_suffix(".npy"), array),
    "array in Fortran's order": lambda path, array: np.save(path.with_suffix(".npy"), np.asfortranarray(array)),
    "array of big ends": lambda path, array: np.save(
        path.with_suffix(".npy"), array.astype(array.dtype.newbyteorder())
    ),
    "TIFF": partial(write_tiff, planarconfig="contig"),
    "TIFF, compressed": partial(write_tiff, planarconfig="contig", compression="zlib", predictor=2),
    "TIFF of planes": lambda path, array: write_tiff(path, PLANES(array), planarconfig="separate"),
    "TIFF of pages": lambda path, array: write_tiff(path, PLANES(array)),
    "TIFF of pages, one by one": write_pages,
    "TIFF of pages, one by one, plain": partial(write_pages, metadata=None),
    "TIFF of pages, for ImageJ": lambda path, array: tifffile.imwrite(path, PLANES(array), imagej=True),
    "TIFF of pages, by Pillow": write_pages_of_pillow,
    "TIFF of tiles, big": partial(write_tiff, planarconfig="contig", tile=(16, 16), bigtiff=True),
}


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("channels", [2, 5])
def test_every_number_comes_back(tmp_path, writer, dtype, channels):
    if writer == "TIFF, compressed" and dtype == "float32":
        pytest.skip("this predictor is for integers")
    if dtype == "int16" and writer in ("TIFF of pages, for ImageJ", "TIFF of pages, by Pillow"):
        pytest.skip("they have no such type")
    array = values(channels, dtype)
    WRITERS[writer](tmp_path / "a.tif", array)
    (path,) = tmp_path.iterdir()
    assert stored_channels(path) == channels
    image = read_image(path, (HEIGHT, WIDTH), channels)
    assert image.dtype == torch.float32
    assert np.array_equal(image.permute(1, 2, 0).numpy(), array.astype(np.float64))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.npy"])
def test_grey_is_one_channel(tmp_path, name, dtype):
    grey = values(1, dtype)[:, :, 0]
    np.save(tmp_path / name, grey) if name == "a.npy" else Image.fromarray(grey).save(tmp_path / name)
    assert np.array_equal(read_image(tmp_path / name, channels=1)[0].numpy(), grey.astype(np.float64))


def test_a_picture_with_alpha_has_four_channels_as_stored(tmp_path):
    array = values(4, "uint8")
    Image.fromarray(array).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png", channels=4).permute(1, 2, 0).numpy(), array)


def test_which_files_are_pictures_and_which_are_not(tmp_path):
    def channels(array, **options):
        tifffile.imwrite(tmp_path / "a.tif", array, **options)
        return stored_channels(tmp_path / "a.tif")

    assert channels(values(3, "uint8"), photometric="rgb") is None
    assert channels(values(3, "uint16"), photometric="rgb") == 3
    assert channels(values(4, "uint8"), photometric="rgb", extrasamples=["unassalpha"]) is None
    assert channels(values(4, "uint8"), photometric="rgb", extrasamples=["unspecified"]) == 4
    assert channels(values(4, "uint8"), photometric="separated") is None  # inks
    assert channels(values(1)[:, :, 0]) is None
    assert channels(PLANES(values(2, "uint8")), photometric="minisblack", planarconfig="separate") == 2
    np.save(tmp_path / "a.npy", values(1)[:, :, 0])
    assert stored_channels(tmp_path / "a.npy") == 1
    for name in ("a.png", "b.tif"):
        Image.new("RGBA", (2, 2)).save(tmp_path / name, format="PNG")
        assert stored_channels(tmp_path / name) is None


def test_which_pages_are_no_channels(tmp_path):
    """Thumbnails, versions of less detail, and pages with a palette, of other types, of colours, or of one bit."""
    grey = values(1, "uint8")[:, :, 0]
    colour_map = np.zeros((3, 256), np.uint16)
    black = {"photometric": "minisblack"}
    palette = {"photometric": "palette", "colormap": colour_map}
    cases = {
        "thumbnail": [(grey, black), (grey[::2, ::2], black)],
        "reduced": [(grey, black), (grey, {**black, "subfiletype": 1})],
        "mask": [(grey, black), (grey > 99, {**black, "subfiletype": 4})],
        "other type": [(grey, black), (grey.astype(np.uint16), black)],
        "colours": [(grey, black), (np.dstack([grey] * 3), {"photometric": "rgb"})],
        "palette": [(grey, palette), (grey, palette)],
        "film": [(np.dstack([grey] * 3), {"photometric": "rgb"})] * 2,
        "fax": [(grey > 99, {**black, "photometric": "miniswhite"})] * 2,
    }
    for name, pages in cases.items():
        file = tmp_path / f"{name}.tif"
        with tifffile.TiffWriter(file) as writer:
            for page, options in pages:
                writer.write(page, metadata=None, **options)
        assert stored_channels(file) is None, name
        if name not in ("palette", "film", "fax"):
            assert np.array_equal(read_image(file, channels=1)[0].numpy(), grey), name
    with pytest.raises(UserError, match=r"film\.tif: .*has the axes"):
        read_image(tmp_path / "film.tif", channels=3)


def test_pages_in_a_circle_are_read_once(tmp_path):
    write_pages(tmp_path / "a.tif", values(2))
    content = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        first, last = file.pages[0].offset, file.pages[-1].offset
    (entries,) = struct.unpack_from("<H", content, last)
    struct.pack_into("<I", content, last + 2 + 12 * entries, first)  # what comes after the last page
    (tmp_path / "a.tif").write_bytes(content)
    assert stored_channels(tmp_path / "a.tif") == 2


def test_one_page_of_several_read_as_rgb_is_warned_of(tmp_path, caplog):
    array = values(5, "uint8")
    write_pages(tmp_path / "a.tif", array)
    write_pages(tmp_path / "one.tif", array[:, :, :1])
    for name in ("a.tif", "one.tif"):
        assert np.array_equal(read_image(tmp_path / name).numpy(), np.stack([array[:, :, 0]] * 3))
    (record,) = caplog.records
    assert (
        f"{tmp_path / 'a.tif'}: is read as RGB, of its first page alone, and not as 5 channels" in record.getMessage()
    )


def test_images_of_other_channels_are_named_both(tmp_path):
    for name, channels in (("a.npy", 5), ("b.npy", 5), ("c.npy", 4)):
        np.save(tmp_path / name, values(channels))
    files = sorted(tmp_path.iterdir())
    assert common_channels(files[:2]) == 5
    with pytest.raises(UserError, match=r"c\.npy has 4 channels, and .*a\.npy has 5 channels; the images"):
        common_channels(files)


def test_arrays_are_images_of_a_folder_that_has_no_others(tmp_path, write_images):
    np.save(tmp_path / "b.npy", values(5))
    assert [path.name for path in find_images([tmp_path])] == ["b.npy"]
    write_images(tmp_path, ["a.png"])
    assert [path.name for path in find_images([tmp_path])] == ["a.png"]


def test_arrays_and_tensors_are_taken_like_files(tmp_path):
    array = values(5)
    np.save(tmp_path / "a.npy", array)
    expected = read_image(tmp_path / "a.npy", channels=5)
    for form in (tmp_path / "a.npy", array, torch.from_numpy(PLANES(array).astype(np.int16).astype(np.float32) * 0)):
        found = pixels_of(form, 5)
        assert found.dtype == torch.float32
        assert found.shape == expected.shape
    assert torch.equal(pixels_of(array, 5), expected)
    assert torch.equal(pixels_of(expected, 5), expected)
    with pytest.raises(UserError, match="has 4 channels and should have 5"):
        pixels_of(array[:, :, :4], 5)


def array_of(shape: str, data: bytes, dtype="<u2") -> bytes:
    """An .npy file by NumPy's description of the format."""
    header = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def tiff_bytes(array: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, array, photometric="minisblack", planarconfig="contig", **options)
    return file.getvalue()


def pickled() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([[[{}] * 5]], dtype=object), allow_pickle=True)
    return file.getvalue()


def bomb() -> bytes:
    """A TIFF file of 16 x 16 pixels whose only strip holds a gigabyte of zeros."""
    content = bytearray(tiff_bytes(np.zeros((16, 16, 5), np.uint16), compression="zlib"))
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        tags = {name: file.pages[0].tags[name] for name in ("StripOffsets", "StripByteCounts")}
    opened, parts = zlib.compressobj(9), []
    for _ in range(64):
        parts.append(opened.compress(bytes(2**24)))
    strip = b"".join([*parts, opened.flush()])
    for name, value in (("StripOffsets", len(content)), ("StripByteCounts", len(strip))):
        # The entry of a tag: its number, its type (4: 32 bits), how many values, the value.
        struct.pack_into("<HHII", content, tags[name].offset, tags[name].code, 4, 1, value)
    return bytes(content) + strip


WHOLE = tiff_bytes(values(5))
BAD = {
    "objects.npy": (pickled(), r"holds object; save it as one of uint8"),
    "names.npy": (array_of("(2, 3, 5)", b"", [("a", "<f4")]), r"holds void32"),
    "double.npy": (array_of("(1, 1, 5)", bytes(40), "<f8"), r"holds float64; save it as one of"),
    "line.npy": (array_of("(30,)", bytes(60)), r"has the shape \(30,\), should be \(height, width\)"),
    "film.npy": (array_of("(2, 1, 3, 5)", bytes(60)), r"has the shape"),
    "nothing.npy": (array_of("(2, 0, 5)", b""), r"has the shape"),
    "short.npy": (array_of("(2, 3, 5)", bytes(59)), r"its 59 bytes of values should be 60"),
    "long.npy": (array_of("(2, 3, 5)", bytes(61)), r"its 61 bytes of values should be 60"),
    "huge.npy": (array_of("(999999, 999999, 5)", bytes(60)), r"more pixels than 128000000, the limit"),
    "cut.npy": (array_of("(2, 3, 5)", bytes(60))[:40], r"cannot be read"),
    "nan.npy": (array_of("(1, 1, 5)", np.full(5, np.nan, "<f4").tobytes(), "<f4"), r"infinite or no number \(NaN\)"),
    "infinite.tif": (tiff_bytes(np.full((2, 2, 5), np.inf, np.float32)), r"infinite or no number \(NaN\)"),
    "start.tif": (WHOLE[:40], r"cannot be read"),
    "end.tif": (WHOLE[:-20], r"failed to read"),
    "deflated.tif": (tiff_bytes(values(5), compression="zlib")[:-20], r"cannot be read"),
    "film.tif": (tiff_bytes(np.zeros((2, 3, 4, 5), np.uint16)), r"has the axes"),
    "bomb.tif": (bomb(), r"a part of it holds more than 2560 bytes"),
    "deep.png": (None, r"cannot be read as stored \(Pillow's mode P\)"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named_in_one_line_with_the_reason(tmp_path, name, caplog):
    content, reason = BAD[name]
    if content is None:
        Image.new("P", (2, 3)).save(tmp_path / name)
    else:
        (tmp_path / name).write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=reason) as caught:
        read_image(tmp_path / name, channels=5)
    assert str(caught.value).startswith(f"{tmp_path / name}: ")
    assert "\n" not in str(caught.value)
    assert not caplog.records
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # kilobytes


def test_other_channels_and_other_sizes_than_expected_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", values(5))
    with pytest.raises(UserError, match="has 5 channels and should have 4"):
        read_image(tmp_path / "a.npy", channels=4)
    with pytest.raises(UserError, match="6 high and 9 wide, but its annotations say 9 and 6"):
        read_image(tmp_path / "a.npy", (9, 6), 5)
    with pytest.raises(UserError, match="an array, which is read as stored"):
        read_image(tmp_path / "a.npy")
