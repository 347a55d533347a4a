"""What a finished run leaves behind, read back with other tools."""

import csv
import json
import platform
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from pycocotools.coco import COCO
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from botvision.checkpoint import read_checkpoint
from botvision.data import CocoDetection, eval_transform
from botvision.detection.checkpoint import load_detector
from botvision.errors import UserError
from botvision.evaluation import METRICS, evaluate_detector
from botvision.training.config import from_plain
from botvision.training.run import start_run
from botvision.training.run_folder import numbered_folder, read_run, run_folder

LOSSES = ("objectness", "proposal_box", "class", "box", "mask")


@pytest.fixture(scope="module")
def rows(finished_run) -> list[dict[str, str]]:
    with (finished_run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_configuration_reads_back(finished_run, tiny_experiment):
    name, experiment = read_run(finished_run)
    assert name == "small/botnet50"
    assert (experiment.model, experiment.data, experiment.optimizer) == (
        tiny_experiment.model,
        tiny_experiment.data,
        tiny_experiment.optimizer,
    )
    assert experiment.run.out == finished_run
    assert experiment.run.steps == 4


def test_the_environment_says_what_it_ran_on(finished_run):
    content = json.loads((finished_run / "environment.json").read_text())
    assert content["torch"] == torch.__version__
    assert content["python"] == platform.python_version()
    assert content.keys() >= {"botvision", "torchvision", "processors", "gpus", "command", "started"}


def test_metrics_have_every_step_and_every_evaluation(rows, tiny_experiment):
    assert [row["step"] for row in rows if row["loss"]] == ["1", "2", "3", "4"]
    assert [row["step"] for row in rows if row["val_box_ap"]] == ["2", "4"]
    for row in (row for row in rows if row["loss"]):
        assert float(row["loss"]) == pytest.approx(sum(float(row[name]) for name in LOSSES), rel=1e-5)
        assert float(row["images_per_second"]) > 0
        assert 0 <= float(row["data_wait"]) <= 1
        assert float(row["memory_mb"]) > 100
        assert float(row["epoch"]) == int(row["step"]) * 4 / 8


def test_the_learning_rate_of_a_line_is_the_one_that_its_step_took(rows):
    # 0.1 for a batch of 64, so 4 / 64 of it; warm-up over 2 steps from 0.0067; a tenth from step 8/3, again from 32/9
    full, start = 0.1 * 4 / 64, 0.0067 * 4 / 64
    expected = [start, (start + full) / 2, full, full / 10]
    assert [float(row["lr"]) for row in rows if row["loss"]] == pytest.approx(expected)


def test_tensorboard_shows_the_same_numbers(finished_run, rows):
    events = EventAccumulator(str(finished_run / "tensorboard")).Reload()
    curves: dict[str, list] = {}
    for row in rows:
        for name, value in row.items():
            if name != "step" and value:
                curves.setdefault(name, []).append((int(row["step"]), pytest.approx(float(value), rel=1e-6)))
    assert set(events.Tags()["scalars"]) == curves.keys()
    for name, points in curves.items():
        assert [(event.step, event.value) for event in events.Scalars(name)] == points


def test_the_scores_are_those_of_the_last_checkpoint(finished_run, shapes):
    content = json.loads((finished_run / "eval" / "metrics.json").read_text())
    assert content["step"] == 4
    assert list(content["box"]) == list(content["mask"]) == list(METRICS)
    model = load_detector(finished_run / "checkpoints" / "last.ckpt").model
    images = CocoDetection(shapes, "val", eval_transform(64))
    scores, _ = evaluate_detector(model, images, batch_size=4)
    assert content["box"] == pytest.approx(scores["box"], abs=1e-6)
    assert content["mask"] == pytest.approx(scores["mask"], abs=1e-6)


def test_detections_load_into_pycocotools(finished_run, shapes):
    truth = COCO(shapes / "annotations" / "instances_val2017.json")
    results = json.loads((finished_run / "eval" / "detections.json").read_text())
    found = truth.loadRes(results)
    assert len(found.anns) == len(results) > 0
    assert {result["category_id"] for result in results} <= set(truth.getCatIds())


def test_no_temporary_file_is_left(finished_run):
    assert sorted(str(file.relative_to(finished_run)) for file in finished_run.rglob("*") if file.is_file()) == [
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "config.yaml",
        "environment.json",
        "eval/detections.json",
        "eval/metrics.json",
        "metrics.csv",
        *sorted(str(file.relative_to(finished_run)) for file in (finished_run / "tensorboard").iterdir()),
    ]


def test_a_taken_folder_is_refused_and_a_default_one_gets_a_number(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(UserError, match="taken"):
        run_folder(tmp_path / "taken", "a/b")
    assert [run_folder(None, "a/b") for _ in range(3)] == [Path("runs") / f"a-b{end}" for end in ("", "-2", "-3")]
    assert numbered_folder(tmp_path / "taken") == tmp_path / "taken-2"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a: [", "YAML"),
        ("3", "experiment"),
        ("experiment: x\nmodell: {}", "modell"),
        ("experiment: x\nrun: {batchsize: 3}", "batchsize"),
        ("experiment: x\nrun: 3", "run"),
    ],
)
def test_a_damaged_configuration_is_named_in_one_line(tmp_path, text, named):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=named) as caught:
        read_run(tmp_path)
    assert str(tmp_path / "config.yaml") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_configurations_of_lists_become_tuples_and_paths(tmp_path):
    content = yaml.safe_load("{model: {depths: [1, 2, 3, 4]}, data: {data: /x, jitter: [0.1, 2.0]}}")
    experiment = from_plain(content, tmp_path)
    assert experiment.model.depths == (1, 2, 3, 4)
    assert (experiment.data.data, experiment.data.jitter) == (Path("/x"), (0.1, 2.0))


def test_the_last_step_has_a_line_of_losses_whatever_the_interval(tiny_experiment, tmp_path):
    run = replace(tiny_experiment.run, out=tmp_path / "run", steps=3, log_every=2, eval_every=3)
    start_run(replace(tiny_experiment, run=run), "small/botnet50", Console(stderr=True))
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        assert [row["step"] for row in csv.DictReader(file) if row["loss"]] == ["2", "3"]


def test_an_evaluation_that_fails_leaves_the_checkpoint_of_its_step(tiny_experiment, shapes, tmp_path):
    data = shutil.copytree(shapes, tmp_path / "data")
    damaged = sorted((data / "val2017").iterdir())[0]
    damaged.write_bytes(damaged.read_bytes()[:200])
    run = replace(tiny_experiment.run, out=tmp_path / "run", save_every=100)
    with pytest.raises(UserError, match=damaged.name):
        start_run(
            replace(tiny_experiment, run=run, data=replace(tiny_experiment.data, data=data)),
            "small/botnet50",
            Console(stderr=True),
        )
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["global_step"] == 2


def test_a_batch_that_does_not_divide_over_the_devices_writes_nothing(tiny_experiment, tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    monkeypatch.setenv("WORLD_SIZE", "3")
    run = replace(tiny_experiment.run, out=tmp_path / "run")
    with pytest.raises(UserError, match="--batch-size 4"):
        start_run(replace(tiny_experiment, run=run), "small/botnet50", Console(stderr=True))
    assert not (tmp_path / "run").exists()


def test_the_loss_is_the_sum_of_its_parts_also_where_gradients_accumulate(tiny_experiment, tmp_path):
    run = replace(tiny_experiment.run, out=tmp_path / "run", steps=1, images_per_device=2)
    start_run(replace(tiny_experiment, run=run), "small/botnet50", Console(stderr=True))
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    assert float(row["loss"]) == pytest.approx(sum(float(row[name]) for name in LOSSES), rel=1e-5)
