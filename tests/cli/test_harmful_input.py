"""Input that could harm, as a user of the command line meets it: one line, or a result."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from botvision.data import CocoDetection

NOT_UTF_8 = os.fsdecode("käfer".encode("latin-1"))
TINY = "--width 8 --depths 1 1 1 1 --input-size 32 --batch-size 4 --steps 2 --warmup-epochs 0 --device cpu --workers 0"


@pytest.fixture
def beetles(tmp_path):
    """Two classes, one of a name that is not UTF-8, with an image of such a name."""
    for split in ("train", "val"):
        for name in (NOT_UTF_8, "other"):
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            for number in range(4):
                pixels = np.random.default_rng(number).integers(0, 256, (40, 40, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{NOT_UTF_8}{number}.png")
    return tmp_path / "data"


def test_names_that_are_not_utf_8_go_through_training_evaluation_and_prediction(run, beetles, tmp_path):
    out = tmp_path / "run"
    status, _, err = run("train", "imagenet/botnet50", "--data", beetles, "--out", out, *TINY.split())
    assert status == 0, err
    status, printed, err = run("eval", out, "--data", beetles, "--device", "cpu", "--workers", 0)
    assert status == 0, err
    printed.encode()
    status, printed, err = run("predict", out, beetles / "val", "--out", tmp_path / "predicted", "--device", "cpu")
    assert status == 0, err
    assert r"k\udce4fer" in printed
    results = json.loads((tmp_path / "predicted" / "predictions.json").read_text(encoding="utf-8"))
    assert all(Path(result["path"]).is_file() for result in results)
    status, _, err = run("shards", beetles, "--out", tmp_path / "shards")
    assert status == 0, err


def test_links_are_followed_where_the_option_that_the_refusal_names_is_given(refusal, run, beetles, tmp_path):
    for file in (beetles / "train" / "other").iterdir():
        file.rename(tmp_path / file.name)
        file.symlink_to(tmp_path / file.name)
    words = ["train", "imagenet/botnet50", "--data", beetles, "--out", tmp_path / "run", *TINY.split()]
    assert "--follow-links" in refusal(*words)
    assert run(*words, "--follow-links")[0] == 0
    assert "--follow-links" in refusal("predict", tmp_path / "run", beetles / "train", "--out", tmp_path / "predicted")
    assert "--follow-links" in refusal("shards", beetles, "--out", tmp_path / "shards")
    assert run("shards", beetles, "--out", tmp_path / "shards", "--follow-links")[0] == 0


def test_a_process_that_reads_images_and_is_killed_is_named_with_what_to_lower(
    refusal, tiny_flags, tmp_path, monkeypatch
):
    monkeypatch.setattr(CocoDetection, "__getitem__", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    words = ["train", "small/botnet50", *tiny_flags, "--workers", 1, "--out", tmp_path / "run"]
    message = refusal(*words)
    assert all(part in message for part in ("killed", "memory", "--workers"))


def test_an_image_over_the_limit_is_left_out_with_a_line_that_names_the_setting(
    finished_run, run, tmp_path, monkeypatch, caplog
):
    monkeypatch.setenv("BOTVISION_MAX_PIXELS", "5000")
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    Image.new("RGB", (80, 64)).save(tmp_path / "b.png")
    status, _, err = run("predict", finished_run, tmp_path / "a.png", tmp_path / "b.png", "--out", tmp_path / "out")
    assert status == 0, err
    assert "b.png" in caplog.text and "BOTVISION_MAX_PIXELS" in caplog.text
