"""The newest checkpoints are kept, and a damaged one is named and replaced by the one before it."""

import errno
import os
import shutil

import pytest
import torch
from rich.console import Console

from botvision import checksum
from botvision.checkpoint import checkpoint_of, read_checkpoint
from botvision.errors import UserError
from botvision.training.trainer import resume, start

CONSOLE = Console(stderr=True)


def flip(file):
    whole = bytearray(file.read_bytes())
    whole[len(whole) // 2] ^= 1
    file.write_bytes(whole)


def steps_of(checkpoints) -> dict[str, int]:
    return {file.stem: read_checkpoint(file)["step"] for file in sorted(checkpoints.iterdir())}


def same_weights(one, two) -> bool:
    one, two = (read_checkpoint(file)["state_dict"] for file in (one, two))
    return all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture
def stopped(make_task, in_batch, interrupt):
    """The checkpoints of a run that was stopped after four of five steps, with three of them."""
    task = make_task(save_every=1, keep_checkpoints=3)
    in_batch(task, 4, interrupt)
    return start(task, "linear", CONSOLE).folder / "checkpoints"


def test_as_many_are_kept_as_are_asked_for(stopped, make_task):
    assert steps_of(stopped) == {"last": 4, "before": 3, "before-2": 2, "best": 3}
    start(make_task(save_every=1, keep_checkpoints=2), "linear", CONSOLE)
    assert steps_of(stopped) == {"last": 5, "before": 4, "best": 3}


@pytest.mark.parametrize("damaged", [["last"], ["last", "before"]])
def test_a_damaged_one_is_named_and_the_one_before_it_used(stopped, make_task, tmp_path, caplog, damaged, rows_of):
    whole = start(make_task(save_every=1, out=tmp_path / "whole"), "linear", CONSOLE).folder
    for name in damaged:
        flip(stopped / f"{name}.ckpt")
    assert start(make_task(save_every=1, keep_checkpoints=3), "linear", CONSOLE).steps == 5
    for name in damaged:
        assert f"{name}.ckpt is damaged" in caplog.text
    for name in ("last", "best"):
        assert same_weights(stopped / f"{name}.ckpt", whole / "checkpoints" / f"{name}.ckpt")
    for table in ("metrics", "evaluations"):
        assert [row["step"] for row in rows_of(stopped.parent, table)] == [row["step"] for row in rows_of(whole, table)]


def test_eval_takes_the_newest_whole_one(stopped):
    (stopped / "best.ckpt").unlink()
    for name, taken in (("last", "before"), ("before", "before-2")):
        flip(stopped / f"{name}.ckpt")
        assert checkpoint_of(stopped.parent).stem == taken


def test_only_damaged_ones_are_refused_and_left_as_they_are(stopped, make_task):
    for file in stopped.iterdir():
        flip(file)
    before = {file: file.read_bytes() for file in stopped.iterdir()}
    for name, use in (
        ("best", lambda: checkpoint_of(stopped.parent)),
        ("last", lambda: resume(make_task(), stopped.parent, CONSOLE)),
        ("last", lambda: start(make_task(), "linear", CONSOLE)),
    ):
        with pytest.raises(UserError, match=rf"{name}\.ckpt is damaged.*no other.*copy.*train again"):
            use()
    assert {file: file.read_bytes() for file in stopped.iterdir()} == before


def test_a_best_one_of_a_score_near_0_is_taken_where_all_others_are_damaged(stopped):
    torch.save(read_checkpoint(stopped / "best.ckpt") | {"best": 0.0}, stopped / "best.ckpt")
    assert checkpoint_of(stopped.parent).stem == "last"
    for file in (file for file in stopped.iterdir() if file.stem != "best"):
        flip(file)
    assert checkpoint_of(stopped.parent).stem == "best"


def test_a_damaged_best_one_is_named_and_replaced_by_that_of_the_next_evaluation(stopped, make_task, caplog):
    flip(stopped / "best.ckpt")
    assert checkpoint_of(stopped.parent) == stopped / "last.ckpt"
    caplog.clear()
    start(make_task(save_every=1), "linear", CONSOLE)
    assert "best.ckpt is damaged" in caplog.text
    assert read_checkpoint(stopped / "best.ckpt")["step"] == 5


def test_temporary_files_of_killed_runs_are_removed_and_others_stay(stopped, make_task):
    (stopped / f".last.{2**22 + 1}.tmp.ckpt").write_bytes(b"half")  # no process has such a number
    (stopped.parent / f".config.{2**22 + 1}.tmp.yaml").touch()
    (stopped.parent / ".metrics.1.tmp.csv").touch()  # of a process that lives
    (stopped.parent / ".notes").touch()
    start(make_task(), "linear", CONSOLE)
    hidden = [file.name for file in stopped.parent.rglob(".*")]
    assert sorted(hidden) == [".metrics.1.tmp.csv", ".notes"]


def test_a_run_of_an_earlier_version_goes_on(stopped, make_task, rows_of):
    """Whose checkpoints have no checksum and do not say up to which step the run was evaluated."""
    for name in ("last", "best"):
        content = read_checkpoint(stopped / f"{name}.ckpt")
        old = {part: value for part, value in content.items() if part not in ("evaluated", "line")}
        torch.save(old, stopped / f"{name}.ckpt")
    for file in stopped.glob("before*"):
        file.unlink()
    config = stopped.parent / "config.yaml"
    config.write_text("".join(line for line in config.read_text().splitlines(True) if "keep_checkpoints" not in line))
    outcome = start(make_task(), "linear", CONSOLE)
    assert outcome.steps == 5
    assert [row["step"] for row in rows_of(outcome.folder, "evaluations")] == ["3", "5"]


@pytest.mark.parametrize("number", ["EROFS", "EACCES", "EIO"])
def test_a_folder_that_cannot_be_written_to_is_named_in_one_line(stopped, make_task, monkeypatch, number):
    """As the system says it of a read-only file system; the superuser of a test may write to all others."""
    folder, opened = stopped.parent, os.open

    def refuse(path, flags, *mode):
        if str(path).startswith(str(folder)) and flags & (os.O_CREAT | os.O_RDWR):
            raise OSError(getattr(errno, number), os.strerror(getattr(errno, number)), str(path))
        return opened(path, flags, *mode)

    copy = shutil.copytree(folder, folder.with_name("copy"))
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OSError, match=str(folder)) as caught:
        start(make_task(), "linear", CONSOLE)
    monkeypatch.undo()
    assert "\n" not in str(caught.value)
    assert steps_of(stopped) == steps_of(copy / "checkpoints")


def unreadable(number, path):
    """A reader of checkpoints for whom the system cannot read one file, and, as in a read, names none."""
    looked_at, lost = checksum.damage_in, path.stat().st_ino

    def read(file):
        if os.fstat(file.fileno()).st_ino == lost:
            raise OSError(number, os.strerror(number))
        return looked_at(file)

    return read


def test_one_whose_content_the_disk_has_lost_is_replaced_by_the_one_before_it(stopped, make_task, monkeypatch, caplog):
    monkeypatch.setattr(checksum, "damage_in", unreadable(errno.EIO, stopped / "last.ckpt"))
    assert checkpoint_of(stopped.parent) == stopped / "before.ckpt"
    assert start(make_task(save_every=1, keep_checkpoints=3, steps=5), "linear", CONSOLE).steps == 5
    assert "last.ckpt is damaged: the disk cannot read it" in caplog.text


def test_one_that_cannot_be_read_now_is_named_and_left_where_it_is(stopped, make_task, monkeypatch):
    """It may be whole: a file on a server that does not answer."""
    before = steps_of(stopped)
    monkeypatch.setattr(checksum, "damage_in", unreadable(errno.ESTALE, stopped / "last.ckpt"))
    with pytest.raises(OSError, match=str(stopped / "last.ckpt")):
        start(make_task(save_every=1, keep_checkpoints=3), "linear", CONSOLE)
    monkeypatch.undo()
    assert steps_of(stopped) == before
