"""`botvision shards` from end to end."""

import json

import numpy as np
import pytest
from PIL import Image

from botvision.data import open_classes


@pytest.fixture
def folder(tmp_path):
    """Two classes with four images each, to train and to evaluate on."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("ant", "bee"):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for number in range(4):
                pixels = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / split / name / f"{number}.png")
    return tmp_path / "data"


def test_both_splits_are_written_and_read(run, folder, tmp_path):
    status, out, err = run("shards", folder, "--out", tmp_path / "out", "--samples-per-shard", 3)
    assert status == 0
    assert "train: 8 images in 3 shards" in out
    assert "val: 8 images in 3 shards" in out
    assert "writing val, image 8/8" in err
    for split in ("train", "val"):
        dataset = open_classes(tmp_path / "out", split)
        assert dataset.classes == ["ant", "bee"]
        assert sorted(target["label"] for _, target in map(dataset.__getitem__, range(8))) == [0] * 4 + [1] * 4


def test_one_split_and_json(run, folder, tmp_path):
    status, out, _ = run("shards", folder, "--out", tmp_path / "out", "--split", "val", "--seed", 5, "--json")
    assert status == 0
    size = (tmp_path / "out" / "val-000000.tar").stat().st_size
    assert json.loads(out) == {"val": {"shards": 1, "images": 8, "bytes": size}}
    assert not list((tmp_path / "out").glob("train*"))


@pytest.mark.parametrize("command", ["shards", "eval"])
def test_the_help_says_what_patterns_are_and_where_shards_of_a_url_go(run, command):
    _, out, _ = run(command, "--help")
    assert "}.tar::" in out.replace("\n", "").replace(" ", "").replace("│", "")
    assert "XDG_CACHE_HOME" in out


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--samples-per-shard", 0), "--samples-per-shard"),
        (("--seed", -1), "--seed"),
        (("--split", "test"), "--split"),
        (("--split",), "--split"),
        (("--shards", 3), "--shards"),
    ],
)
def test_flags_that_make_no_sense_are_refused(run, folder, tmp_path, flags, said):
    status, out, err = run("shards", folder, "--out", tmp_path / "out", *flags)
    assert (status, out) == (2, "")
    assert said in err
    assert not (tmp_path / "out").exists()


def test_data_that_cannot_be_meant_is_refused_before_anything_is_written(run, folder, tmp_path):
    out = tmp_path / "out"
    (folder / "val" / "bee").rename(folder / "val" / "wasp")
    status, _, err = run("shards", folder, "--out", out)
    assert status == 2
    assert err.startswith(f"botvision: {folder / 'val'}: its classes are not those of {folder / 'train'}: ")
    assert err.endswith("it lacks 'bee' and adds 'wasp'\n")
    assert "holds no train/" in run("shards", folder / "train", "--out", out)[2]
    assert not out.exists()
    assert run("shards", folder, "--out", out, "--split", "train")[0] == 0
    status, _, err = run("shards", folder, "--out", out, "--split", "train")
    assert status == 2
    assert "there are shards of this split already" in err
