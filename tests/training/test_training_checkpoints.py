"""Checkpoints: whole or not there, and read without running what is in them."""

import csv
import os
import pickle
import resource
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from botvision.checkpoint import checkpoint_of, read_checkpoint
from botvision.detection.checkpoint import load_detector
from botvision.errors import UserError
from botvision.files import write_text
from botvision.training.checkpoints import SaveCheckpoints, WholeCheckpoints
from botvision.training.metrics import add_row
from botvision.training.run import start_run


@contextmanager
def full_disk(left: int):
    """No file can grow over ``left`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (left, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def names_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def one_line(caught) -> str:
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path):
    path = tmp_path / "last.ckpt"
    good = {"botvision": {}, "state_dict": {"weight": torch.ones(100_000)}}
    WholeCheckpoints().save_checkpoint(good, path)
    before = path.read_bytes()
    with full_disk(100_000), pytest.raises(UserError, match=r"last\.ckpt") as caught:
        WholeCheckpoints().save_checkpoint({**good, "more": torch.zeros(100_000)}, path)
    assert "kept" in one_line(caught)
    assert path.read_bytes() == before
    assert names_in(tmp_path) == ["last.ckpt"]


def test_a_disk_that_fills_up_during_a_run_ends_it_with_one_line(tiny_experiment, tmp_path, monkeypatch):
    save = WholeCheckpoints.save_checkpoint

    def save_on_a_disk_that_fills_up(self, checkpoint, path, storage_options=None):
        with full_disk(100_000 if checkpoint["global_step"] == 4 else 10**9):
            save(self, checkpoint, path, storage_options)

    monkeypatch.setattr(WholeCheckpoints, "save_checkpoint", save_on_a_disk_that_fills_up)
    run = replace(tiny_experiment.run, out=tmp_path / "run", eval_every=100)
    with pytest.raises(UserError, match="could not write") as caught:
        start_run(replace(tiny_experiment, run=run), "tiny", Console(stderr=True))
    one_line(caught)
    folder = tmp_path / "run" / "checkpoints"
    assert read_checkpoint(folder / "last.ckpt")["global_step"] == 2
    assert [name for name in names_in(folder) if "tmp" in name] == []
    with (tmp_path / "run" / "metrics.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file) if row["loss"]] == ["1", "2", "3", "4"]


@pytest.mark.parametrize("room", [2000, 20_000])  # for the description of the run, and for no checkpoint
def test_a_disk_too_full_for_the_first_checkpoint_leaves_no_folder(tiny_experiment, tmp_path, room):
    run = replace(tiny_experiment.run, out=tmp_path / "run")
    with full_disk(room), pytest.raises(UserError, match=r"could not write .*; free some space$") as caught:
        start_run(replace(tiny_experiment, run=run), "tiny", Console(stderr=True))
    one_line(caught)
    assert names_in(tmp_path) == []


def test_a_file_that_there_is_no_room_for_is_named(tmp_path):
    with full_disk(100), pytest.raises(UserError) as caught:
        write_text(tmp_path / "metrics.json", "x" * 1000)
    assert one_line(caught) == f"could not write {tmp_path / 'metrics.json'} (File too large); free some space"
    assert names_in(tmp_path) == []
    with full_disk(100), pytest.raises(UserError) as caught:
        add_row(tmp_path / "metrics.csv", ("step",), {"step": "x" * 1000})
    assert one_line(caught) == f"could not write {tmp_path / 'metrics.csv'} (File too large); free some space"


class Recorder:
    """A trainer that notes what it is asked to save."""

    def __init__(self) -> None:
        self.saved: list[str] = []
        self.global_step = 1
        self.is_global_zero = True

    def save_checkpoint(self, path: Path, weights_only: bool) -> None:
        self.saved.append(path.name.replace("new", "last"))
        path.touch()


def test_the_best_checkpoint_stays_the_best_through_a_resume(tmp_path):
    trainer = Recorder()
    before, after = (SaveCheckpoints(tmp_path, every=10) for _ in range(2))
    for score in (0.3, 0.2, 0.3):
        before.save_best(trainer, score)
    assert trainer.saved == ["best.ckpt", "last.ckpt"]  # the last one knows of the best
    after.load_state_dict(before.state_dict())
    after.save_best(trainer, 0.25)
    assert trainer.saved == ["best.ckpt", "last.ckpt"]
    after.save_best(trainer, 0.4)
    assert trainer.saved == ["best.ckpt", "last.ckpt"] * 2


class Malicious:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path, save):
    path = tmp_path / "evil.ckpt"
    save({"botvision": {}, "state_dict": {}, "evil": Malicious(tmp_path / "ran")}, path)
    with pytest.raises(UserError, match=r"evil\.ckpt is no readable checkpoint") as caught:
        load_detector(path)
    one_line(caught)
    assert names_in(tmp_path) == ["evil.ckpt"]


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {"state_dict": {}},
        {"botvision": {}, "state_dict": {}},
        {"botvision": 3, "state_dict": {}},
        {"botvision": {"model": {}, "categories": []}, "state_dict": []},
        {"botvision": {"model": {"no_such_field": 1}, "categories": []}, "state_dict": {}},
        {"botvision": {"model": {"backbone": "botnet5"}, "categories": []}, "state_dict": {}},
        {"botvision": {"model": {"depths": [1, 1, 1, 1], "width": 8}, "categories": []}, "state_dict": {}},
    ],
)
def test_a_checkpoint_of_something_else_is_named_in_one_line(tmp_path, content):
    path = tmp_path / "other.ckpt"
    torch.save(content, path)
    with pytest.raises(UserError, match=r"other\.ckpt") as caught:
        load_detector(path)
    one_line(caught)


def test_a_checkpoint_cut_off_in_the_middle_is_named_in_one_line(finished_run, tmp_path):
    whole = (finished_run / "checkpoints" / "last.ckpt").read_bytes()
    (tmp_path / "half.ckpt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"half\.ckpt is no readable checkpoint") as caught:
        load_detector(tmp_path / "half.ckpt")
    one_line(caught)


def test_of_a_run_folder_the_best_checkpoint_counts_else_the_last(tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    with pytest.raises(UserError, match="neither"):
        checkpoint_of(tmp_path)
    for name in ("last.ckpt", "best.ckpt"):
        (folder / name).touch()
        assert checkpoint_of(tmp_path) == folder / name


def test_a_loaded_detector_is_the_saved_one(finished_run, tiny_experiment):
    path = finished_run / "checkpoints" / "last.ckpt"
    model, categories, source = load_detector(path)
    assert source == path
    assert (model.config, model.training) == (tiny_experiment.model, False)
    assert [category.id for category in categories] == [1, 2, 4, 7, 8, 11]
    saved = torch.load(path, weights_only=True)["state_dict"]
    assert {f"model.{name}" for name in model.state_dict()} == saved.keys()
    assert all(torch.equal(value, saved[f"model.{name}"]) for name, value in model.state_dict().items())
