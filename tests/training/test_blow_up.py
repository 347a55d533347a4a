"""Weights or losses that are not finite end a run, which keeps its last good checkpoint."""

import pytest
import torch
from rich.console import Console

from botvision.checkpoint import read_checkpoint
from botvision.errors import NotFiniteError, UserError
from botvision.training.checkpoint import Checkpoints
from botvision.training.trainer import resume, start

CONSOLE = Console(stderr=True)


def step_of(folder) -> int:
    return read_checkpoint(folder / "checkpoints" / "last.ckpt")["step"]


@pytest.mark.parametrize("save_every", [1, 2])
@pytest.mark.parametrize("images_per_device", [8, 4])
def test_a_loss_of_nan_keeps_the_last_good_checkpoint(
    make_task, in_batch, to_nan, tmp_path, save_every, images_per_device
):
    task, folder = make_task(save_every=save_every, eval_every=100, images_per_device=images_per_device), tmp_path / "r"
    task.experiment = task.experiment.replace(run=task.experiment.run.replace(out=folder))
    in_batch(task, 4 * 8 // images_per_device, to_nan)  # by the weights of step 3, perhaps written already
    with pytest.raises(NotFiniteError, match=f"nan at step 4; .*weights: {folder}.*lr.*clip_norm") as caught:
        start(task, "linear", CONSOLE)
    assert "\n" not in str(caught.value)
    assert [file.name for file in (folder / "checkpoints").iterdir()] == ["last.ckpt"]
    assert step_of(folder) == 2
    assert start(make_task(weights=folder), "linear", CONSOLE).steps == 5  # as the message says


def test_a_blow_up_that_shows_after_a_resume_keeps_the_last_good_checkpoint(
    make_task, in_batch, interrupt, to_nan, tmp_path
):
    task = make_task(eval_every=100)
    in_batch(task, 3, interrupt)
    assert start(task, "linear", CONSOLE).steps == 3
    task = make_task(eval_every=100)
    in_batch(task, 1, to_nan)
    with pytest.raises(NotFiniteError, match="nan at step 4"):
        resume(task, tmp_path / "run", CONSOLE)
    assert step_of(tmp_path / "run") == 2


def test_weights_that_blow_up_in_the_last_step_are_neither_scored_nor_kept(make_task, tmp_path):
    task = make_task()

    def infinite(model, step):
        if step == 5:
            model.out[1].weight.data.fill_(float("inf"))

    task.after_step = infinite
    with pytest.raises(NotFiniteError, match=r"out\.1\.weight is not finite"):
        start(task, "linear", CONSOLE)
    assert step_of(tmp_path / "run") == 4
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt")["step"] == 3


def test_a_run_that_blows_up_in_its_first_step_leaves_no_folder(make_task, in_batch, to_nan, tmp_path):
    task = make_task(save_every=1)
    in_batch(task, 1, to_nan)
    with pytest.raises(NotFiniteError, match="start a new run with a smaller lr"):
        start(task, "linear", CONSOLE)
    assert list(tmp_path.iterdir()) == []


def test_an_answer_that_is_not_finite_takes_the_checkpoint_back(make_task, tmp_path):
    task = make_task(eval_every=5)

    def refuse(*_):
        raise NotFiniteError("the answer to a.png is not finite")

    task.evaluate = refuse
    with pytest.raises(NotFiniteError, match=r"a\.png"):
        start(task, "linear", CONSOLE)
    assert step_of(tmp_path / "run") == 4


def test_a_run_killed_between_two_renamings_continues_from_the_checkpoint_before(
    make_task, in_batch, interrupt, tmp_path
):
    task = make_task(eval_every=100)
    in_batch(task, 3, interrupt)
    start(task, "linear", CONSOLE)
    checkpoints = tmp_path / "run" / "checkpoints"
    (checkpoints / "last.ckpt").unlink()
    assert read_checkpoint(checkpoints / "before.ckpt")["step"] == 2
    assert resume(make_task(eval_every=100), tmp_path / "run", CONSOLE).steps == 5


def content(step: int) -> dict:
    return {"botvision": {"task": "linear"}, "step": step, "state_dict": {"weight": torch.full((3,), float(step))}}


def test_only_a_checkpoint_in_doubt_is_taken_back(tmp_path):
    checkpoints = Checkpoints(tmp_path, 2, 0, in_doubt=False)
    for step in (1, 2):
        checkpoints.save_last(content(step))
        checkpoints.confirm()
    checkpoints.withdraw()
    assert read_checkpoint(checkpoints.last)["step"] == 2
    checkpoints.save_last(content(3))
    checkpoints.save_last(content(3))  # of the same step, with the best score
    checkpoints.withdraw()
    assert read_checkpoint(checkpoints.last)["step"] == 2
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_full_disk_is_named(make_task, tmp_path, full_disk):
    save_every_step = make_task(save_every=1, eval_every=100)
    describe = save_every_step.describe

    def describe_more():  # the checkpoint of the fourth step is larger than the disk
        return describe() | ({"padding": list(range(10**6))} if len(save_every_step.seen) == 4 else {})

    save_every_step.describe = describe_more
    with full_disk(10**6), pytest.raises(UserError, match=r"could not write .*last\.ckpt is kept") as caught:
        start(save_every_step, "linear", CONSOLE)
    assert "\n" not in str(caught.value)
    assert step_of(tmp_path / "run") == 3
    assert [file.name for file in (tmp_path / "run" / "checkpoints").iterdir() if "tmp" in file.name] == []


@pytest.mark.parametrize("room", [200, 2000])  # too little for the description of the run, and for a checkpoint
def test_a_disk_too_full_for_the_first_checkpoint_leaves_no_folder(make_task, tmp_path, full_disk, room):
    with full_disk(room), pytest.raises(UserError, match=r"could not write .*; free some space$"):
        start(make_task(), "linear", CONSOLE)
    assert list(tmp_path.iterdir()) == []
