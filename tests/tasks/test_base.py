"""Where data are, whatever folder a run is resumed from."""

from pathlib import Path

from botvision.tasks.base import absolute


def test_places_are_absolute_in_every_part_and_urls_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute(None) is None
    assert absolute(Path("data")) == tmp_path / "data"
    assert absolute("s/train-{0..3}.tar::s/val-0.tar") == f"{tmp_path}/s/train-{{0..3}}.tar::{tmp_path}/s/val-0.tar"
    assert absolute(Path("a::b")) == tmp_path / "a::b"
    assert absolute("https://a/train.tar::val.tar") == f"https://a/train.tar::{tmp_path}/val.tar"
