"""The same call goes on with its run; another one is told what differs."""

from pathlib import Path

import pytest
import torch
from rich.console import Console

from botvision.checkpoint import read_checkpoint
from botvision.errors import UserError
from botvision.training.run_name import OtherSettingsError, numbered_folder
from botvision.training.trainer import start

CONSOLE = Console(stderr=True)


def weights_of(folder):
    return read_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"]


def test_the_same_call_goes_on_and_a_complete_run_is_left_as_it_is(make_task, in_batch, interrupt, tmp_path, capfd):
    whole = start(make_task(out=tmp_path / "whole"), "linear", CONSOLE)
    task = make_task()
    in_batch(task, 2, interrupt)
    assert start(task, "linear", CONSOLE).stopped
    again = make_task()
    outcome = start(again, "linear", CONSOLE)
    assert (outcome.steps, len(again.seen)) == (5, 3)
    assert all(torch.equal(weights_of(outcome.folder)[name], value) for name, value in weights_of(whole.folder).items())
    capfd.readouterr()
    assert start(make_task(), "linear", CONSOLE) == outcome
    assert "complete" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("field", "value", "was"),
    [("batch_size", 4, 8), ("seed", 7, 0), ("steps", 6, 5), ("ema_decay", 0.5, None), ("eval_every", 1, 3)],
)
def test_a_field_that_differs_is_named_with_both_values(make_task, tmp_path, field, value, was):
    folder = start(make_task(), "linear", CONSOLE).folder
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    with pytest.raises(OtherSettingsError) as caught:
        start(make_task(**{field: value}), "linear", CONSOLE)
    assert caught.value.path == ("run", field)
    assert all(repr(part) in str(caught.value) for part in (value, was))
    assert str(folder) in str(caught.value)
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before


def test_fields_that_compute_nothing_else_may_differ_and_are_noted(make_task, in_batch, interrupt):
    task = make_task()
    in_batch(task, 2, interrupt)
    folder = start(task, "linear", CONSOLE).folder
    outcome = start(make_task(workers=1, save_every=3, log_every=5, threads=1, keep_checkpoints=4), "linear", CONSOLE)
    assert outcome.steps == 5
    assert "save_every: 3" in (folder / "config.yaml").read_text()


def test_another_share_of_a_step_is_taken_and_said_where_batch_norm_is_over_it(make_task, in_batch, interrupt, caplog):
    task = make_task(images_per_device=4)
    in_batch(task, 4, interrupt)
    folder = start(task, "linear", CONSOLE).folder
    assert start(make_task(images_per_device=8, steps=5), "linear", CONSOLE).steps == 5
    assert "over 8 images now, and over 4 before" in caplog.text
    assert "images_per_device: 8" in (folder / "config.yaml").read_text()


def test_data_that_have_changed_are_named_and_the_run_is_left_as_it_is(make_task, in_batch, interrupt):
    task = make_task()
    task.data = lambda: {"training images": "24, digest a"}
    in_batch(task, 2, interrupt)
    folder = start(task, "linear", CONSOLE).folder
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    again = make_task()
    again.data = lambda: {"training images": "24, digest b"}
    with pytest.raises(UserError, match=r"training images.*digest a then.*digest b now"):
        start(again, "linear", CONSOLE)
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before


def test_another_experiment_is_refused(make_task):
    start(make_task(steps=1), "linear", CONSOLE)
    with pytest.raises(UserError, match=r"linear .*other"):
        start(make_task(steps=1), "other", CONSOLE)


def test_a_default_folder_is_the_first_with_these_settings(make_task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "a-b-2").touch()  # something else
    (tmp_path / "runs" / "a-b-3").mkdir()  # of a run that was killed at once
    seeds = {seed: start(make_task(out=None, steps=1, seed=seed), "a/b", CONSOLE).folder for seed in (0, 1, 2)}
    assert seeds == {0: Path("runs/a-b"), 1: Path("runs/a-b-3"), 2: Path("runs/a-b-4")}
    again = make_task(out=None, steps=1, seed=1)
    assert start(again, "a/b", CONSOLE).folder == Path("runs/a-b-3")
    assert again.seen == []
    assert numbered_folder(tmp_path / "runs" / "a-b") == tmp_path / "runs" / "a-b-5"


def test_a_default_folder_whose_settings_cannot_be_read_is_named(make_task, tmp_path, monkeypatch):
    """Whose run it is nobody knows: to begin another one would leave it behind in silence."""
    monkeypatch.chdir(tmp_path)
    folder = start(make_task(out=None, steps=1), "a/b", CONSOLE).folder
    (folder / "config.yaml").write_bytes(bytes(100))
    with pytest.raises(UserError, match=str(folder / "config.yaml")):
        start(make_task(out=None, steps=1), "a/b", CONSOLE)
    assert list(Path("runs").iterdir()) == [folder]


@pytest.mark.parametrize("left", [[], [".lock"], [f".config.{2**22 + 1}.tmp.yaml"], ["config.yaml", "metrics.csv"]])
def test_a_run_killed_before_its_first_checkpoint_begins_again(make_task, tmp_path, rows_of, left):
    whole, folder = start(make_task(out=tmp_path / "whole"), "linear", CONSOLE).folder, tmp_path / "run"
    folder.mkdir()
    for name in left:
        (folder / name).write_bytes((whole / name).read_bytes() if (whole / name).exists() else b"")
    assert start(make_task(), "linear", CONSOLE).steps == 5
    assert [row["step"] for row in rows_of(folder)] == ["1", "2", "3", "4", "5"]
    assert [file for file in folder.iterdir() if file.name.startswith(".")] == []


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_no_run_is_refused_and_left_as_it_is(make_task, tmp_path, kind):
    taken = tmp_path / "run" / "notes.txt" if kind == "folder" else tmp_path / "run"
    taken.parent.mkdir(exist_ok=True)
    taken.write_text("mine")
    with pytest.raises(UserError, match=f"out: .*{tmp_path / 'run'}"):
        start(make_task(), "linear", CONSOLE)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [taken]
