"""Runs of detectors: what they leave behind, and that an interrupted one ends as one that never was, bit for bit."""

import csv
import io
import json
import os
import shutil
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from botvision.checkpoint import read_checkpoint
from botvision.data import CocoDetection
from botvision.errors import NotFiniteError, UserError
from botvision.tasks.detection.checkpoint import load_detector
from botvision.tasks.detection.evaluate import evaluate_detector
from botvision.tasks.detection.mask_rcnn import MaskRCNN
from botvision.tasks.detection.task import DetectionTask
from botvision.tasks.detection.transforms import eval_transform
from botvision.tasks.registry import task_of_run
from botvision.training.trainer import resume, start

CONSOLE = Console(stderr=True)
LOSSES = ("objectness", "proposal_box", "class", "box", "mask")


@pytest.fixture
def task_of(tiny_experiment, tmp_path):
    """The tiny experiment in ``tmp_path / "run"``, with fields of sections changed."""

    def make(**sections):
        sections = {**sections, "run": {"out": tmp_path / "run", **sections.get("run", {})}}
        changed = {name: getattr(tiny_experiment, name).replace(**of) for name, of in sections.items()}
        return DetectionTask(tiny_experiment.replace(**changed))

    return make


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


@pytest.mark.parametrize(
    "sections",
    [{}, {"run": {"images_per_device": 2}}, {"data": {"workers": 1}}],
    ids=["plain", "accumulating", "worker"],
)
def test_stopped_by_a_signal_and_resumed(task_of, tmp_path, sections):
    whole = start(task_of(**sections), "tiny", CONSOLE).folder.rename(tmp_path / "whole")
    task = task_of(**sections)
    losses, batches = task.losses, []

    def interrupted(model, batch):
        batches.append(1)
        if len(batches) == (5 if "run" in sections else 3):  # in the third of four steps
            os.kill(os.getpid(), signal.SIGINT)
        return losses(model, batch)

    task.losses = interrupted
    outcome = start(task, "tiny", CONSOLE)
    assert (outcome.stopped, outcome.steps) == (True, 3)
    torch.manual_seed(12345)
    outcome = resume(task_of_run(outcome.folder), outcome.folder, CONSOLE)
    assert (outcome.stopped, outcome.steps) == (False, 4)
    own, other = last_of(outcome.folder), last_of(whole)
    assert all(torch.equal(own["state_dict"][name], value) for name, value in other["state_dict"].items())
    momenta, others = own["optimizer"]["state"], other["optimizer"]["state"]
    assert all(torch.equal(momenta[i]["momentum_buffer"], others[i]["momentum_buffer"]) for i in others)
    assert values_of(outcome.folder) == values_of(whole)


@pytest.mark.parametrize("images_per_device", [4, 2])
def test_the_loss_is_the_sum_of_its_parts(task_of, images_per_device):
    folder = start(task_of(run={"images_per_device": images_per_device, "steps": 2}), "tiny", CONSOLE).folder
    for row in rows_of(folder):
        assert float(row["loss"]) == pytest.approx(sum(float(row[name]) for name in LOSSES), rel=1e-5)
        assert 0 <= float(row["proposal_recall"]) <= 1


def test_a_learning_rate_in_metrics_is_the_one_that_its_step_took(finished_run):
    # 0.1 for a batch of 64, so 4 / 64 of it; warm-up over 2 steps from 0.0067; a tenth from step 8/3, again from 32/9
    full, first = 0.1 * 4 / 64, 0.0067 * 4 / 64
    rates = [float(row["lr"]) for row in rows_of(finished_run)]
    assert rates == pytest.approx([first, (first + full) / 2, full, full / 10])


def test_each_evaluation_draws_four_images_for_the_folder_and_for_tensorboard(finished_run, shapes):
    names = sorted(file.stem for file in (shapes / "val2017").iterdir())
    folders = [finished_run / "pictures" / f"step-{step}" for step in (2, 4)]
    for folder in folders:
        assert sorted(file.stem for file in folder.iterdir()) == names
    events = EventAccumulator(str(finished_run / "tensorboard"), {"images": 0}).Reload()
    for name in names:
        shown = events.Images(name)
        assert [event.step for event in shown] == [2, 4]
        file = Image.open(folders[1] / f"{name}.png")
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(shown[1].encoded_image_string))), np.asarray(file))


def test_a_run_says_what_it_is(finished_run, tiny_experiment):
    task = task_of_run(finished_run)
    assert (task.name, task.experiment.model, task.experiment.optimizer) == (
        "detection",
        tiny_experiment.model,
        tiny_experiment.optimizer,
    )


def test_a_loaded_detector_is_the_saved_one(finished_run, tiny_experiment):
    path = finished_run / "checkpoints" / "last.ckpt"
    model, categories, source = load_detector(path)
    assert source == path
    assert (model.config, model.training) == (tiny_experiment.model, False)
    assert [category.id for category in categories] == [1, 2, 4, 7, 8, 11]
    saved = torch.load(path, weights_only=True)["state_dict"]
    assert model.state_dict().keys() == saved.keys()
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())


def test_the_scores_are_those_of_the_last_checkpoint(finished_run, shapes):
    content = json.loads((finished_run / "eval" / "metrics.json").read_text())
    assert content["step"] == 4
    model = load_detector(finished_run / "checkpoints" / "last.ckpt").model
    scores = evaluate_detector(model, CocoDetection(shapes, "val", eval_transform(64)), batch_size=4).scores
    for kind in ("box", "mask"):
        assert content[kind] == pytest.approx(scores[kind], abs=1e-6)


def test_detections_load_into_pycocotools(finished_run, shapes):
    truth = COCO(shapes / "annotations" / "instances_val2017.json")
    results = json.loads((finished_run / "eval" / "detections.json").read_text())
    found = truth.loadRes(results)
    assert len(found.anns) == len(results) > 0
    assert {result["category_id"] for result in results} <= set(truth.getCatIds())


def test_an_unreadable_validation_image_is_named_and_leaves_the_checkpoint(task_of, shapes, tmp_path):
    data = shutil.copytree(shapes, tmp_path / "data")
    damaged = sorted((data / "val2017").iterdir())[0]
    damaged.write_bytes(damaged.read_bytes()[:200])
    with pytest.raises(UserError, match=damaged.name):
        start(task_of(data={"data": data}, run={"save_every": 100}), "tiny", CONSOLE)
    assert last_of(tmp_path / "run")["step"] == 2


def test_a_learning_rate_that_is_far_too_large_ends_in_one_line(task_of, tmp_path):
    with pytest.raises(NotFiniteError, match="smaller lr") as caught:
        start(task_of(optimizer={"lr": 1e30, "warmup_lr": 1e30}), "tiny", CONSOLE)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_frozen_parts_keep_what_was_loaded_from_the_first_step_on(task_of, tiny_experiment, tmp_path):
    """Their batch norms too, which a network starts in training mode, frozen or not."""
    torch.manual_seed(0)
    loaded = MaskRCNN(tiny_experiment.model, 6).backbone.body
    torch.save(loaded.state_dict(), tmp_path / "weights.pth")
    run = {"steps": 1, "weights": tmp_path / "weights.pth", "out": tmp_path / "run"}
    changed = {"model": tiny_experiment.model.replace(freeze_stem=True), "run": tiny_experiment.run.replace(**run)}
    folder = start(DetectionTask(tiny_experiment.replace(**changed)), "tiny", CONSOLE).folder
    state = last_of(folder)["state_dict"]
    frozen = [name for name in loaded.state_dict() if name.split(".")[0] in ("conv1", "bn1", "layer1")]
    assert all(torch.equal(state[f"backbone.body.{name}"], loaded.state_dict()[name]) for name in frozen)
    assert not torch.equal(state["backbone.body.layer2.0.bn1.running_mean"], loaded.layer2[0].bn1.running_mean)
