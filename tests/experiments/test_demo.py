"""The demo, on fewer images and for few steps."""

import pytest
from PIL import Image
from rich.console import Console

from botvision.experiments import demo
from botvision.experiments.demo import run_demo

CONSOLE = Console(stderr=True)


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
    monkeypatch.setattr(demo, "TRAIN_IMAGES", 8)
    monkeypatch.setattr(demo, "VAL_IMAGES", 4)
    monkeypatch.setattr(demo, "PICTURES", 2)


def test_a_second_demo_uses_the_data_again_and_makes_another_run(tmp_path):
    first, pictures = run_demo(tmp_path, CONSOLE, steps=2)
    written = {file: file.stat().st_mtime_ns for file in (tmp_path / "data").rglob("*")}
    assert first.folder == tmp_path / "run"
    assert first.steps == 2
    assert 0 <= first.scores["mask"]["ap"] <= 1
    assert len(pictures) == 2
    assert all(Image.open(picture).width > 256 for picture in pictures)
    checkpoint = (first.folder / "checkpoints" / "last.ckpt").stat().st_mtime_ns

    second, _ = run_demo(tmp_path, CONSOLE, steps=1)
    assert second.folder == tmp_path / "run-2"
    assert second.steps == 1
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "data").rglob("*")} == written
    assert (first.folder / "checkpoints" / "last.ckpt").stat().st_mtime_ns == checkpoint
