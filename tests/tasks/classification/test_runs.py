"""Runs of classifiers: what they leave behind, and that an interrupted one ends as one that never was, bit for bit."""

import csv
import json
import os
import re
import shutil
import signal
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from botvision.checkpoint import read_checkpoint
from botvision.data import open_classes
from botvision.errors import UserError
from botvision.tasks.classification.checkpoint import load_classifier
from botvision.tasks.classification.evaluate import evaluate_classifier
from botvision.tasks.classification.task import ClassificationTask
from botvision.tasks.classification.transforms import eval_crop
from botvision.tasks.registry import task_of_run
from botvision.training.trainer import initial_weights, resume, start

CONSOLE = Console(stderr=True)
NAME = "imagenet/botnet50"
STEPS = 6  # two epochs of 24 images, 8 at a step

EVERYTHING = {
    "model": {"dropout": 0.25, "stochastic_depth": 0.2},
    "data": {"randaugment": (2, 10), "mixup": 0.2, "cutmix": 1.0},
    "optimizer": {"label_smoothing": 0.1},
    "run": {"images_per_device": 4, "steps": STEPS, "eval_every": 3, "ema_decay": 0.5},
}
"""All that draws at random or remembers something, gradients that accumulate included."""


@pytest.fixture
def run_of(colour_experiment, change, tmp_path):
    """Trains in ``tmp_path / "run"`` with fields of sections changed; notes the paths of the images in ``seen``."""

    def train(*, seen=None, before_losses=lambda number: None, **sections):
        run = {"out": tmp_path / "run", **sections.pop("run", {})}
        task = noting(ClassificationTask(change(colour_experiment, run=run, **sections)), seen, before_losses)
        return start(task, NAME, CONSOLE)

    return train


def noting(task, seen, before_losses=lambda number: None):
    """A task that notes the paths of the images, and calls a function with the number of each batch."""
    losses, calls = task.losses, Counter()

    def noted(model, batch):
        calls["batches"] += 1
        before_losses(calls["batches"])
        if seen is not None:
            seen.extend(target["path"] for target in batch["targets"])
        return losses(model, batch)

    task.losses = noted
    return task


def rows_of(folder, table="metrics") -> list[dict[str, str]]:
    with (folder / f"{table}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def values_of(folder) -> list[list[dict[str, str]]]:
    """Both tables without what depends on time and machine."""
    varying = {"time", "images_per_second", "data_wait", "memory_mb"}
    tables = (rows_of(folder, table) for table in ("metrics", "evaluations"))
    return [[{name: row[name] for name in row.keys() - varying} for row in rows] for rows in tables]


def last_of(folder):
    return read_checkpoint(folder / "checkpoints" / "last.ckpt")


@pytest.fixture(scope="module")
def finished(colour_experiment, change, tmp_path_factory):
    """The folder of a finished run with everything on; tests must not change it."""
    run = {**EVERYTHING["run"], "out": tmp_path_factory.mktemp("finished") / "run"}
    task = ClassificationTask(change(colour_experiment, **EVERYTHING | {"run": run}))
    return start(task, NAME, CONSOLE).folder


@pytest.mark.parametrize("workers", [0, 1])
def test_stopped_in_the_middle_of_an_epoch_and_resumed(run_of, finished, workers):
    def interrupt(number):
        if number == 3:  # in the first half of the second step, whose gradients accumulate over two batches
            os.kill(os.getpid(), signal.SIGINT)

    seen: list[str] = []
    sections = EVERYTHING | {"data": EVERYTHING["data"] | {"workers": workers}}
    outcome = run_of(seen=seen, before_losses=interrupt, **sections)
    assert (outcome.stopped, outcome.steps, len(seen)) == (True, 2, 16)
    torch.manual_seed(12345)
    outcome = resume(noting(task_of_run(outcome.folder), seen), outcome.folder, CONSOLE)
    assert (outcome.stopped, outcome.steps) == (False, STEPS)

    assert [Counter(seen[epoch : epoch + 24]) for epoch in (0, 24)] == [Counter(set(seen))] * 2
    assert len(set(seen)) == 24
    own, other = last_of(outcome.folder), last_of(finished)
    for part in ("state_dict", "ema_state_dict"):
        assert own[part].keys() == other[part].keys()
        assert all(torch.equal(own[part][name], value) for name, value in other[part].items())
    momenta, others = own["optimizer"]["state"], other["optimizer"]["state"]
    assert all(torch.equal(momenta[i]["momentum_buffer"], others[i]["momentum_buffer"]) for i in others)
    assert values_of(outcome.folder) == values_of(finished)


def test_metrics_have_every_step_and_every_evaluation(finished):
    steps, evaluations = rows_of(finished), rows_of(finished, "evaluations")
    assert [row["step"] for row in steps] == ["1", "2", "3", "4", "5", "6"]
    assert [row["step"] for row in evaluations] == ["3", "6"]
    assert all(float(row["loss"]) > 0 and 0 <= float(row["top1"]) <= 1 for row in steps)
    # 0.1 for a batch of 256, so 8 / 256 of it; the warm-up of half an epoch is 2 steps
    assert [float(row["lr"]) for row in steps[:3]] == pytest.approx([0.1 / 64, 0.1 / 32, 0.1 / 32])


def test_a_run_says_what_it_is(finished, colours):
    task = task_of_run(finished)
    assert (task.name, task.experiment.data.data) == ("classification", str(colours))
    assert task.experiment.data.randaugment == (2, 10)
    content = read_checkpoint(finished / "checkpoints" / "best.ckpt")
    assert content["botvision"]["classes"] == content["botvision"]["class_names"] == ["blue", "green", "red"]
    assert content["state_dict"].keys() == content["ema_state_dict"].keys()


def test_the_scores_are_those_of_the_average_in_the_checkpoint(finished, colours):
    images = open_classes(colours, "val", eval_crop(64))
    written = json.loads((finished / "eval" / "metrics.json").read_text())
    scores = {}
    for ema in (True, False):
        loaded = load_classifier(finished / "checkpoints" / "last.ckpt", ema=ema)
        scores[ema] = evaluate_classifier(loaded.model, images, loaded.class_names, batch_size=4).scores
    assert written["step"] == STEPS
    for name in ("top1", "top5", "loss", "ece", "images"):
        assert written[name] == pytest.approx(scores[True][name], rel=1e-6), name
    assert written["loss"] != pytest.approx(scores[False]["loss"], rel=1e-3)
    assert {file.name for file in (finished / "eval").iterdir()} >= {"metrics.json", "predictions.csv"}


def test_a_complete_run_gives_its_scores(finished):
    content = json.loads((finished / "eval" / "metrics.json").read_text())
    outcome = resume(task_of_run(finished), finished, CONSOLE)
    assert {"step": outcome.steps, **outcome.scores} == content


def test_a_run_of_relative_data_resumes_from_any_folder(run_of, colours, monkeypatch):
    monkeypatch.chdir(colours.parent)
    folder = run_of(data={"data": colours.name}, run={"steps": 3}).folder
    monkeypatch.chdir("/")
    assert task_of_run(folder).experiment.data.data == str(colours)


def test_data_at_an_address_is_left_as_it_is(run_of, tmp_path, monkeypatch):
    monkeypatch.setattr("botvision.data.remote.time.sleep", lambda seconds: None)  # the pauses before it tries again
    address = "http://127.0.0.1:9/shards"  # nothing listens there
    with pytest.raises((UserError, OSError), match=re.escape(address)):
        run_of(data={"data": address})
    assert list(tmp_path.iterdir()) == []


def test_a_run_starts_from_another_ones_average_with_other_classes(run_of, colours, finished, tmp_path):
    two = shutil.copytree(colours, tmp_path / "two")
    for split in ("train", "val"):
        shutil.rmtree(two / split / "red")
    run = {"steps": 1, "weights": finished / "checkpoints" / "last.ckpt"}
    folder = run_of(model={"freeze": "c5"}, data={"data": str(two)}, optimizer={"warmup_epochs": 0}, run=run).folder
    before, after = load_classifier(finished / "checkpoints" / "last.ckpt"), load_classifier(folder)
    assert after.classes == ["blue", "green"]
    for name, value in before.model.network.state_dict().items():
        if not name.startswith("fc."):
            assert torch.equal(after.model.network.state_dict()[name], value), name


@pytest.mark.parametrize(
    ("lacks", "works"), [("layer4.0.conv3.weight", "c4"), ("layer2.0.bn1.running_mean", "c2"), ("conv1.", "none")]
)
def test_what_the_weights_do_not_contain_is_not_frozen(run_of, finished, tmp_path, lacks, works):
    state = {name: value for name, value in initial_weights(finished).items() if not name.startswith(lacks)}
    state = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "weights.pth")
    sections = {"optimizer": {"warmup_epochs": 0}, "run": {"steps": 1, "weights": tmp_path / "weights.pth"}}
    with pytest.raises(UserError, match=f"freeze.*{works}.*{re.escape(lacks)}"):
        run_of(model={"freeze": "c5"}, **sections)
    assert not (tmp_path / "run").exists()
    assert run_of(model={"freeze": works}, **sections).steps == 1


@pytest.fixture
def damaged(colours, tmp_path):
    """A copy of the images in which so many cannot be read."""

    def damage(number: int):
        copy = shutil.copytree(colours, tmp_path / "data")
        for file in sorted((copy / "train" / "green").iterdir())[:number]:
            file.write_bytes(b"no image")
        return {"data": str(copy)}

    return damage


def test_one_unreadable_image_is_named_and_left_out(run_of, damaged, caplog):
    seen: list[str] = []
    outcome = run_of(seen=seen, data=damaged(1), run={"steps": STEPS})
    assert (outcome.steps, len(seen)) == (STEPS, 2 * 23)
    (named,) = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert "green/0.png" in named
    skipped = last_of(outcome.folder)["skipped"]
    assert (skipped["seen"], len(skipped["bad"])) == (24, 1)


def test_more_unreadable_images_stop_the_run_with_their_names(run_of, damaged):
    with pytest.raises(UserError, match="1 %") as caught:
        run_of(data=damaged(2))
    assert "\n" not in str(caught.value)
    assert all(f"green/{number}.png" in str(caught.value) for number in (0, 1))


def test_a_batch_without_any_readable_image_is_passed_over(run_of, damaged):
    run = {"batch_size": 1, "steps": 24, "eval_every": 24}
    outcome = run_of(model={"input_size": 96}, data=damaged(1), run=run)
    assert outcome.steps == 24
    assert [float(row["loss"]) for row in rows_of(outcome.folder)].count(0.0) == 1


def test_a_batch_of_one_image_teaches_where_the_last_map_has_one_position(run_of, damaged):
    seen: list[str] = []
    run = {"batch_size": 2, "steps": 12, "eval_every": 12}
    outcome = run_of(seen=seen, model={"input_size": 32}, data=damaged(1), run=run)
    assert outcome.steps == 12
    assert len(seen) == 23  # one of the twelve batches had one image
    assert all(float(row["loss"]) > 0 for row in rows_of(outcome.folder))


@pytest.mark.slow
def test_64_images_of_noise_are_learned_by_heart(run_of, tmp_path):
    """Forward, backward, optimiser and evaluation belong together: the labels say nothing of the images."""
    noise, root = np.random.default_rng(0), tmp_path / "noise"
    for label in range(8):
        for image in range(8):
            pixels = np.kron(noise.integers(0, 256, (8, 8, 3), dtype=np.uint8), np.ones((8, 8, 1), dtype=np.uint8))
            for split in ("train", "val"):
                (root / split / str(label)).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(root / split / str(label) / f"{image}.png")
    outcome = run_of(
        model={"input_size": 32},
        data={"data": str(root), "crop_scale": (0.8, 1.0), "crop_ratio": (1.0, 1.0), "flip": 0.0},
        optimizer={"lr": 0.4, "weight_decay": 0.0, "warmup_epochs": 5},
        run={"steps": 100, "batch_size": 64, "eval_every": 100, "save_every": 100},
    )
    assert (outcome.scores["images"], outcome.scores["top1"]) == (64, 1)
