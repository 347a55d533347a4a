"""Images read ahead in batches: in order, each once, and bounded in number and pixels."""

import weakref
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from botvision.data import images, read_image_batches
from botvision.errors import UserError

LIMIT = 100
"""Pixels of a batch."""


def write(folder: Path, sizes: list[tuple[int, int] | None]) -> list[Path]:
    """Images of these (width, height), and a file that is none for None."""
    files = [folder / f"{number}.png" for number in range(1, len(sizes) + 1)]
    for file, size in zip(files, sizes, strict=True):
        if size is None:
            file.write_text("no image")
        else:
            Image.new("RGB", size).save(file)
    return files


sides = st.integers(1, 14)


@given(st.lists(st.none() | st.tuples(sides, sides), min_size=1, max_size=9).filter(any), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_batches_hold_every_readable_image_once_in_order(sizes, batch_size):
    seen, batches, progress = [], [], []
    with TemporaryDirectory() as folder, patch.object(images, "BATCH_PIXELS", LIMIT):
        files = write(Path(folder), sizes)
        for batch in read_image_batches(files, batch_size, lambda done, total: progress.append((done, total))):
            assert 1 <= len(batch) <= batch_size
            pixels = [image.shape[1] * image.shape[2] for _, image in batch]
            assert sum(pixels) <= LIMIT or len(batch) == 1
            seen += [(number, (image.shape[2], image.shape[1])) for number, image in batch]
            batches.append(pixels)
    assert seen == [(number, size) for number, size in enumerate(sizes, start=1) if size]
    for pixels, following in pairwise(batches):
        assert len(pixels) == batch_size or sum(pixels) + following[0] > LIMIT  # no smaller than they must be
    assert progress == sorted(set(progress))
    assert progress[-1] == (len(sizes), len(sizes))


def test_a_batch_and_the_next_image_are_all_that_is_in_memory(tmp_path):
    files, alive = write(tmp_path, [(8, 8)] * 12), weakref.WeakSet()
    read = images.read_image

    def tracked(file: Path, **options):
        image = read(file, **options)
        alive.add(image)
        return image

    with patch.object(images, "read_image", tracked):
        for batch in read_image_batches(files, 3, lambda done, total: None):
            assert len(batch) == 3
            assert len(alive) <= 4


def test_where_no_image_can_be_read_the_last_reason_is_given(tmp_path, caplog):
    with pytest.raises(UserError, match=r"no image can be read: .*2\.png"):
        list(read_image_batches(write(tmp_path, [None, None]), 2, lambda done, total: None))
    assert "1.png" in caplog.text
