"""How runs of classifiers end: by a signal, a blow-up, an error, or beside another process."""

from dataclasses import replace

import pytest
import torch
from rich.console import Console

from botvision.checkpoint import read_checkpoint
from botvision.errors import UserError
from botvision.training.classification import ClassificationTask
from botvision.training.run import raise_explained, resume_run, start_run

CONSOLE = Console(stderr=True)


def changed(experiment, **sections):
    return replace(experiment, **{name: replace(getattr(experiment, name), **of) for name, of in sections.items()})


def test_a_signal_in_the_last_step_stops_nothing(colour_experiment, interrupt_at, tmp_path, capfd):
    interrupt_at(4)
    outcome = start_run(changed(colour_experiment, run={"out": tmp_path / "run"}), "imagenet/botnet50", CONSOLE)
    assert "finishing the step; press again to stop at once" in capfd.readouterr().err
    assert (outcome.steps, outcome.stopped) == (4, False)
    assert outcome.scores


def test_a_run_is_trained_by_one_process_at_a_time(colour_experiment, tmp_path, monkeypatch):
    losses, out, refused = ClassificationTask.losses, tmp_path / "run", []

    def meanwhile(self, model, batch):
        if (out / "checkpoints" / "last.ckpt").exists():
            with pytest.raises(UserError) as caught:
                resume_run(out, CONSOLE)
            refused.append(str(caught.value))
        return losses(self, model, batch)

    monkeypatch.setattr(ClassificationTask, "losses", meanwhile)
    assert start_run(changed(colour_experiment, run={"out": out}), "imagenet/botnet50", CONSOLE).steps == 4
    assert refused == [f"{out} is being trained by another process"] * 2
    assert not (out / ".lock").exists()


@pytest.fixture
def diverging_at(monkeypatch):
    """The loss of a batch is no number."""

    def arrange(wanted: int) -> None:
        losses, batches = ClassificationTask.losses, []

        def diverging(self, model, batch):
            batches.append(1)
            found = losses(self, model, batch)
            return found | {"loss": found["loss"] * (float("nan") if len(batches) == wanted else 1)}

        monkeypatch.setattr(ClassificationTask, "losses", diverging)

    return arrange


@pytest.mark.parametrize("save_every", [1, 2])
def test_a_loss_that_is_no_number_keeps_the_last_good_checkpoint(colour_experiment, diverging_at, tmp_path, save_every):
    diverging_at(4)  # by the weights of step 3, which are written already where every step is
    run = {"out": tmp_path / "run", "save_every": save_every, "eval_every": 100}
    with pytest.raises(UserError, match=f"loss is nan at step 3; .* --weights {tmp_path / 'run'}, and --lr") as caught:
        start_run(changed(colour_experiment, run=run), "imagenet/botnet50", CONSOLE)
    assert "\n" not in str(caught.value)
    assert [file.name for file in (tmp_path / "run" / "checkpoints").iterdir()] == ["last.ckpt"]
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["global_step"] == 2

    follow_it = {"out": tmp_path / "again", "weights": tmp_path / "run", "steps": 3}
    assert start_run(changed(colour_experiment, run=follow_it), "imagenet/botnet50", CONSOLE).steps == 3


def test_a_blow_up_that_shows_after_a_resume_keeps_the_last_good_checkpoint(
    colour_experiment, interrupt_at, diverging_at, tmp_path
):
    interrupt_at(3)
    run = {"out": tmp_path / "run", "eval_every": 100}
    assert start_run(changed(colour_experiment, run=run), "imagenet/botnet50", CONSOLE).steps == 3
    diverging_at(1)
    with pytest.raises(UserError, match="loss is nan at step 3"):
        resume_run(tmp_path / "run", CONSOLE)
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["global_step"] == 2


def test_a_run_killed_between_two_renamings_goes_on_from_the_checkpoint_before(
    colour_experiment, interrupt_at, tmp_path
):
    interrupt_at(3)
    start_run(
        changed(colour_experiment, run={"out": tmp_path / "run", "eval_every": 100}), "imagenet/botnet50", CONSOLE
    )
    checkpoints = tmp_path / "run" / "checkpoints"
    (checkpoints / "last.ckpt").replace(checkpoints / "before.ckpt")
    assert resume_run(tmp_path / "run", CONSOLE).scores


def test_weights_that_blow_up_at_the_last_step_are_neither_scored_nor_kept(colour_experiment, tmp_path):
    sections = {"optimizer": {"lr": 1e38, "warmup_epochs": 0}, "run": {"out": tmp_path / "run", "steps": 1}}
    with pytest.raises(UserError, match=r"blown up.*start it anew with --lr smaller than 1e\+38") as caught:
        start_run(changed(colour_experiment, **sections), "imagenet/botnet50", CONSOLE)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "asked", "expected"),
    [
        (SystemExit(), False, KeyboardInterrupt),
        (RuntimeError("a worker is gone"), True, KeyboardInterrupt),
        (RuntimeError("a bug"), False, RuntimeError),
        (UserError("a full disk"), True, UserError),
    ],
)
def test_what_ended_a_run(error, asked, expected):
    with pytest.raises(expected) as caught:
        raise_explained(error, asked, 8)
    assert caught.type is expected


def test_a_full_gpu_is_answered_with_the_flag_that_helps():
    with pytest.raises(UserError, match="8 images at once; give a smaller --images-per-device"):
        raise_explained(torch.OutOfMemoryError("CUDA out of memory"), False, 8)
