"""`botvision bench data` from end to end, on few and small images."""

import json

import numpy as np
import pytest
from PIL import Image

from botvision.cli import main


@pytest.fixture
def photographs(tmp_path):
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        (tmp_path / f"class{number}").mkdir()
        Image.fromarray(pixels).save(tmp_path / f"class{number}" / "a.jpg")
    return tmp_path


def run(*words) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["bench", "data", *map(str, words)])
    return caught.value.code


@pytest.mark.parametrize("workers", [0, 1])
def test_both_pipelines_are_timed_with_both_augmentations(photographs, tmp_path, capsys, workers):
    flags = ("--data", photographs, "--images", 40, "--size", 16, "--repeats", 1, "--workers", workers)
    assert run(*flags, "--json", "--out", tmp_path / "picture.png") == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in found] == ["botvision", "torchvision"] * 2
    assert len({one["recipe"] for one in found}) == 2
    assert all(one["images_per_second"] > 0 for one in found)
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.width > 500


def test_without_a_folder_images_are_drawn_and_a_table_is_printed(capsys):
    assert run("--images", 32, "--size", 32, "--repeats", 1) == 0
    out = capsys.readouterr().out
    assert out.count("botvision") == 2
    assert out.count("1.00") >= 2


def test_what_cannot_be_read_or_timed_is_refused(photographs, tmp_path, capsys):
    assert run("--images", 31) == 2
    assert "--images" in capsys.readouterr().err
    assert run("--data", tmp_path / "nothing") == 2
    error = capsys.readouterr().err
    assert "--data" in error
    assert str(tmp_path / "nothing") in error
