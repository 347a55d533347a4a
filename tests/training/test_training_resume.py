"""A run that is interrupted and resumed ends as one that never was, bit for bit."""

import csv
import json
import os
import signal
from dataclasses import replace

import pytest
import torch
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from botvision.checkpoint import read_checkpoint
from botvision.detection import MaskRCNN
from botvision.errors import UserError
from botvision.training.config import DetectionExperiment
from botvision.training.progress import Reporter
from botvision.training.run import resume_run, start_run

STEPS = 5
CONSOLE = Console(stderr=True)
KINDS = {"plain": {}, "accumulating": {"images_per_device": 2}, "with a worker": {}}


class Crash(Exception):
    """Something that nobody foresaw."""


def experiment_in(folder, tiny_experiment: DetectionExperiment, kind: str) -> DetectionExperiment:
    run = replace(tiny_experiment.run, steps=STEPS, eval_every=3, save_every=2, out=folder, **KINDS[kind])
    data = replace(tiny_experiment.data, workers=1 if kind == "with a worker" else 0)
    return replace(tiny_experiment, run=run, data=data)


@pytest.fixture(scope="module")
def uninterrupted(tiny_experiment, tmp_path_factory):
    """Folders of whole runs; the number of workers makes no difference."""
    folders = {}

    def run(kind: str):
        kind = "accumulating" if kind == "accumulating" else "plain"
        if kind not in folders:
            folder = tmp_path_factory.mktemp("whole") / "run"
            folders[kind] = start_run(experiment_in(folder, tiny_experiment, kind), "tiny", CONSOLE).folder
        return folders[kind]

    return run


@pytest.fixture(autouse=True)
def signals_given_back():
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.fixture
def at_step(monkeypatch):
    """Does something right after a step, once."""

    def arrange(wanted: int, what) -> None:
        show, done = Reporter.show, []

        def show_and_act(self, task, step, total, text=""):
            show(self, task, step, total, text)
            if task.startswith("training") and step == wanted and not done:
                done.append(True)
                what()

        monkeypatch.setattr(Reporter, "show", show_and_act)

    return arrange


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def crash():
    raise Crash


def assert_same_end(folder, expected):
    own, other = (read_checkpoint(run / "checkpoints" / "last.ckpt") for run in (folder, expected))
    assert own["global_step"] == other["global_step"] == STEPS
    for name, value in other["state_dict"].items():
        assert torch.equal(own["state_dict"][name], value), name
    momenta, others = (c["optimizer_states"][0]["state"] for c in (own, other))
    assert momenta.keys() == others.keys()
    assert all(torch.equal(momenta[i]["momentum_buffer"], others[i]["momentum_buffer"]) for i in others)
    assert losses_of(folder) == losses_of(expected)


def losses_of(folder) -> list[tuple[str, ...]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [(row["step"], row["lr"], row["loss"], row["val_box_ap"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_by_a_signal_and_resumed(tiny_experiment, uninterrupted, at_step, tmp_path, kind):
    before = signal.getsignal(signal.SIGINT)
    at_step(3, interrupt)
    outcome = start_run(experiment_in(tmp_path / "run", tiny_experiment, kind), "tiny", CONSOLE)
    assert (outcome.stopped, outcome.steps) == (True, 3)
    assert signal.getsignal(signal.SIGINT) is before
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["global_step"] == 3
    torch.manual_seed(12345)
    outcome = resume_run(tmp_path / "run", CONSOLE)
    assert (outcome.stopped, outcome.steps) == (False, STEPS)
    assert_same_end(outcome.folder, uninterrupted(kind))


@pytest.mark.parametrize("kind", ["plain", "accumulating"])
def test_crashed_between_two_checkpoints_and_resumed_from_the_last_one(
    tiny_experiment, uninterrupted, at_step, tmp_path, kind
):
    before = signal.getsignal(signal.SIGINT)
    at_step(3, crash)
    with pytest.raises(Crash):
        start_run(experiment_in(tmp_path / "run", tiny_experiment, kind), "tiny", CONSOLE)
    assert signal.getsignal(signal.SIGINT) is before
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["global_step"] == 2
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3]
    assert_same_end(resume_run(tmp_path / "run", CONSOLE).folder, uninterrupted(kind))
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4, 5]


def test_a_second_signal_stops_at_once(tiny_experiment, at_step, tmp_path):
    def interrupt_twice():
        interrupt()
        interrupt()

    at_step(3, interrupt_twice)
    with pytest.raises(KeyboardInterrupt):
        start_run(experiment_in(tmp_path / "run", tiny_experiment, "plain"), "tiny", CONSOLE)


def test_a_complete_run_is_left_as_it_is(uninterrupted, capsys):
    folder = uninterrupted("plain")
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
    outcome = resume_run(folder, CONSOLE)
    assert (outcome.steps, outcome.stopped) == (STEPS, False)
    written = json.loads((folder / "eval" / "metrics.json").read_text())
    assert written == {"step": STEPS, **outcome.scores}
    assert "complete" in capsys.readouterr().err
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*")} == before


def test_a_loss_that_is_no_number_ends_the_run_in_one_line(tiny_experiment, tmp_path):
    experiment = experiment_in(tmp_path / "run", tiny_experiment, "plain")
    experiment = replace(experiment, optimizer=replace(experiment.optimizer, lr=1e30, warmup_lr=1e30))
    with pytest.raises(UserError, match="start it anew with --lr smaller") as caught:
        start_run(experiment, "tiny", CONSOLE)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []  # it could not be resumed


def test_a_run_that_fails_before_its_first_step_leaves_no_folder(tiny_experiment, tmp_path, monkeypatch):
    monkeypatch.setattr(MaskRCNN, "forward", lambda *_: crash())
    with pytest.raises(Crash):
        start_run(experiment_in(tmp_path / "run", tiny_experiment, "plain"), "tiny", CONSOLE)
    assert list(tmp_path.iterdir()) == []


def test_frozen_parts_keep_what_was_loaded_from_the_first_step_on(tiny_experiment, tmp_path):
    """Their batch norms too, which a network starts in training mode, frozen or not."""
    torch.manual_seed(0)
    start = MaskRCNN(tiny_experiment.model, 6).backbone.body
    torch.save(start.state_dict(), tmp_path / "weights.pth")
    run = replace(tiny_experiment.run, out=tmp_path / "run", steps=1, weights=tmp_path / "weights.pth")
    experiment = replace(tiny_experiment, model=replace(tiny_experiment.model, freeze_stem=True), run=run)
    folder = start_run(experiment, "tiny", CONSOLE).folder
    state = read_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"]
    frozen = [name for name in start.state_dict() if name.split(".")[0] in ("conv1", "bn1", "layer1")]
    assert all(torch.equal(state[f"model.backbone.body.{name}"], start.state_dict()[name]) for name in frozen)
    assert not torch.equal(state["model.backbone.body.layer2.0.bn1.running_mean"], start.layer2[0].bn1.running_mean)
