"""MNIST's and Fashion-MNIST's files."""

import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from botvision.data import open_classes
from botvision.errors import UserError

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 5, 4), dtype=np.uint8)


@pytest.fixture(params=["", ".gz"])
def digits(request, tmp_path, pixels) -> Path:
    labels = np.array([3, 1, 4, 1, 5, 9], dtype=np.uint8)
    pack = gzip.compress if request.param else bytes
    for prefix in ("train", "t10k"):
        (tmp_path / f"{prefix}-images-idx3-ubyte{request.param}").write_bytes(pack(idx(pixels)))
        (tmp_path / f"{prefix}-labels-idx1-ubyte{request.param}").write_bytes(pack(idx(labels)))
    return tmp_path


@pytest.mark.parametrize("split", ["train", "val"])
def test_grey_images_and_labels_are_read(digits, pixels, split):
    dataset = open_classes(digits, split)
    assert dataset.classes == dataset.class_names == list("0123456789")
    assert [dataset[number][1]["label"] for number in range(6)] == [3, 1, 4, 1, 5, 9]
    for number in range(6):
        assert (dataset[number][0].numpy() == pixels[number]).all()


def damage(folder: Path, name: str, content: bytes) -> str:
    (folder / f"train-{name}-ubyte.gz").write_bytes(content)
    with pytest.raises(UserError) as caught:
        open_classes(folder, "train")
    assert str(folder / f"train-{name}-ubyte") in str(caught.value)
    return str(caught.value)


def test_files_that_do_not_hold_what_they_should_are_named(digits, pixels):
    images = gzip.compress(idx(pixels))
    damage(digits, "images-idx3", images[:-9])
    damage(digits, "images-idx3", b"no archive")
    damage(digits, "images-idx3", gzip.compress(b""))
    damage(digits, "images-idx3", gzip.compress(idx(pixels[0])))
    damage(digits, "images-idx3", gzip.compress(idx(pixels)[:-1]))
    (digits / "train-images-idx3-ubyte.gz").write_bytes(images)
    assert "5 labels for 6 images" in damage(digits, "labels-idx1", gzip.compress(idx(np.zeros(5, dtype=np.uint8))))
    beyond = np.array([0, 1, 2, 10, 0, 0], dtype=np.uint8)
    assert "label 3 is 10" in damage(digits, "labels-idx1", gzip.compress(idx(beyond)))


def test_no_more_is_unpacked_than_the_header_says(digits, pixels):
    endless = gzip.compress(bytes(2**24))
    header = struct.pack(">BBBB3I", 0, 0, 8, 3, 2**16, 2**16, 1)
    assert str(2**32) in damage(digits, "images-idx3", gzip.compress(header) + endless)
    tracemalloc.start()
    damage(digits, "images-idx3", gzip.compress(idx(pixels)) + endless)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**21


def test_a_missing_file_is_named(digits):
    for file in digits.glob("t10k-labels*"):
        file.unlink()
    with pytest.raises(UserError, match=r"holds no t10k-labels-idx1-ubyte.*train-images-idx3"):
        open_classes(digits, "val")


def test_fashion_mnist_is_known_by_its_labels():
    if not FASHION_MNIST.is_dir():
        pytest.skip(f"needs Debian's package dataset-fashion-mnist at {FASHION_MNIST}")
    train, val = (open_classes(FASHION_MNIST, split) for split in ("train", "val"))
    assert (len(train), len(val)) == (60_000, 10_000)
    assert np.bincount(train.labels).tolist() == [6000] * 10
    assert train.class_names == val.class_names
    assert [val.class_names[label] for label in val.labels[:4]] == ["Ankle boot", "Pullover", "Trouser", "Trouser"]
