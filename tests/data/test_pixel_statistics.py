"""Means and deviations of channels are those of NumPy in float64, and are kept in the data set's folder."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from botvision.data.pixel_statistics import Moments, moments_of, read_statistics, write_statistics
from botvision.errors import UserError


def moments(images) -> Moments:
    found = Moments()
    for image in images:
        found.add(*moments_of(torch.from_numpy(image)))
    return found


def test_statistics_are_numpys_even_where_the_deviation_is_tiny_beside_the_mean():
    generator = np.random.default_rng(0)
    scale = np.array([1, 1e-3, 6e4], dtype=np.float64)[:, None, None]
    images = [(scale * generator.normal(10, 1, (3, height, 20)) + 1000).astype(np.float32) for height in (5, 30, 11)]
    pixels = np.concatenate([image.reshape(3, -1) for image in images], axis=1).astype(np.float64)
    found = moments(images)
    np.testing.assert_allclose(found.mean, pixels.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(found.std, pixels.std(axis=1), rtol=1e-9)
    assert (found.count, found.images) == (pixels.shape[1], 3)


def test_what_is_kept_is_read_back_to_the_last_digit(tmp_path):
    found = moments([np.random.default_rng(0).random((5, 4, 4)).astype(np.float32)])
    assert read_statistics(tmp_path, "train") is None
    file = write_statistics(tmp_path, "train", found)
    kept = read_statistics(tmp_path, "train")
    assert (kept.channels, kept.images) == (5, 1)
    assert (list(kept.mean), list(kept.std)) == (found.mean.tolist(), found.std.tolist())
    with pytest.raises(UserError, match="of the split train, and should be of val"):
        read_statistics(tmp_path, "val")
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "std": content["std"][:4]}))
    with pytest.raises(UserError, match=r"pixels\.json: std: should have 5 numbers, got 4; botvision data check"):
        read_statistics(tmp_path, "train")


def test_where_nothing_can_be_kept_the_flags_are_named(tmp_path, caplog):
    images = [np.array([[[0, 2]], [[-3, 3]]], dtype=np.float32)]
    for place in (tmp_path / "none", Path("https://example.org/shards")):
        assert write_statistics(place, "train", moments(images)) is None
        assert "--in-channels 2 --pixel-mean 1.0 0.0 --pixel-std 1.0 3.0" in caplog.records[-1].getMessage()
    assert not list(tmp_path.iterdir())


def test_a_channel_with_one_value_alone_is_refused(tmp_path):
    with pytest.raises(UserError, match="std"):
        write_statistics(tmp_path, "train", moments([np.ones((2, 3, 3), np.float32)]))
    assert not list(tmp_path.iterdir())
