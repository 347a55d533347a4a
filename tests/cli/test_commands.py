"""The commands from end to end: what they print, what they leave behind, and how they stop."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from botvision.cli import main
from botvision.experiments import EXPERIMENTS
from botvision.tasks.detection.checkpoint import load_detector
from botvision.tasks.detection.coco import METRICS
from botvision.tasks.detection.config import DetectionExperiment


def test_print_config_reads_back_and_writes_nothing(run, tiny_flags, tmp_path, monkeypatch, shapes):
    monkeypatch.chdir(tmp_path)
    status, out, err = run("train", "small/botnet50", *tiny_flags, "--jitter", "0.5", "1.5", "--print-config")
    assert (status, err) == (0, "")
    content = yaml.safe_load(out)
    assert content.pop("experiment") == "small/botnet50"
    assert content.pop("task") == "detection"
    experiment = DetectionExperiment(**content)
    assert (experiment.data.data, experiment.data.jitter) == (shapes, (0.5, 1.5))
    assert (experiment.model.width, experiment.run.batch_size, experiment.run.precision) == (8, 4, "float32")
    assert experiment.model.depths == EXPERIMENTS["small/botnet50"].config.model.depths
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def trained(tiny_flags, tmp_path_factory) -> Path:
    """A run folder with brackets in its name, which markup would swallow."""
    out = tmp_path_factory.mktemp("trained") / "run [bold]"
    with pytest.raises(SystemExit) as caught:
        main(["train", "small/botnet50", *tiny_flags, "--out", str(out)])
    assert caught.value.code == 0
    return out


def test_eval_prints_nothing_but_json_and_writes_it_too(run, trained, shapes, tmp_path):
    out = tmp_path / "results"
    status, printed, err = run("eval", trained, "--data", shapes, "--json", "--out", out, "--pictures", 2)
    assert status == 0
    scores = json.loads(printed)
    assert list(scores["box"]) == list(scores["mask"]) == list(METRICS)
    written = json.loads((out / "metrics.json").read_text())
    assert {name: written[name] for name in scores} == scores
    assert written["split"] == "val"
    assert len(list((out / "pictures").glob("*.png"))) == 2
    assert str(out) in err


def test_eval_of_another_split_leaves_what_the_training_wrote(run, trained, shapes):
    before = (trained / "eval" / "metrics.json").read_text()
    run("eval", trained, "--data", shapes, "--split", "train", "--images", 2)
    assert (trained / "eval" / "metrics.json").read_text() == before
    assert json.loads((trained / "eval" / "train" / "metrics.json").read_text())["split"] == "train"


def test_eval_agrees_with_the_evaluation_of_the_run(run, finished_run, shapes, tmp_path):
    last = finished_run / "checkpoints" / "last.ckpt"
    for batch_size in (1, 4):
        _, printed, _ = run("eval", last, "--data", shapes, "--json", "--batch-size", batch_size)
        written = json.loads((finished_run / "eval" / "metrics.json").read_text())
        assert json.loads(printed)["box"] == pytest.approx(written["box"], abs=1e-6)


def test_eval_as_a_table_shows_percent_and_classes(run, trained, shapes, tmp_path):
    status, out, _ = run("eval", trained, "--data", shapes, "--classes", "--out", tmp_path / "out", "--images", 2)
    assert status == 0
    assert all(word in out for word in (*METRICS, "triangle", "ring", "(%)"))


def test_predict_prints_nothing_but_json_and_writes_results_and_pictures(run, trained, shapes, tmp_path):
    files = sorted((shapes / "val2017").iterdir())
    status, out, err = run(
        "predict", trained, files[0], shapes / "val2017", "--threshold", 0, "--json", "--out", tmp_path
    )
    assert status == 0
    results = json.loads(out)
    assert json.loads((tmp_path / "predictions.json").read_text()) == results
    assert {result["image_id"] for result in results} <= {1, 2, 3, 4, 5}
    assert len(results) > 5
    assert len(list(tmp_path.glob("*.png"))) == 1 + len(files)
    assert "5 images" in err
    assert Image.open(tmp_path / f"{files[0].stem}-2.png").size == Image.open(tmp_path / f"{files[0].stem}.png").size


def test_a_finished_run_is_made_longer(run, trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "run")
    status, _, err = run("train", "--resume", folder, "--steps", 1)
    assert status == 2
    assert "--steps" in err
    assert "2 steps" in err
    assert run("train", "--resume", folder, "--epochs", 1, "--steps", 3)[0] == 2
    status, _, err = run("train", "--resume", folder, "--steps", 3)
    assert status == 0
    assert yaml.safe_load((folder / "config.yaml").read_text())["run"]["steps"] == 3
    with (folder / "metrics.csv").open(newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "2", "3"]
    status, _, err = run("train", "--resume", folder, "--epochs", 2)  # of 8 images in batches of 4
    assert status == 0
    with (folder / "metrics.csv").open(newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "2", "3", "4"]
    assert "4 of 4 steps" in run("train", "--resume", folder)[2]


def test_a_warning_about_a_field_names_its_flag_on_standard_error(trained, shapes, tmp_path):
    image = next((shapes / "val2017").iterdir())
    words = ["predict", trained, image, "--threshold", "0.999", "--out", tmp_path / "out"]
    done = subprocess.run([sys.executable, "-m", "botvision", *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0
    assert "--threshold: " in done.stderr
    assert f"{trained / 'checkpoints'}" in done.stderr  # which checkpoint was taken
    assert json.loads((tmp_path / "out" / "predictions.json").read_text()) == []


def test_the_threshold_of_an_evaluation_is_that_of_its_pictures(run, trained, shapes, tmp_path):
    pictures = []
    for threshold in (0, 1):
        out = tmp_path / str(threshold)
        flags = ("--images", 1, "--pictures", 1, "--threshold", threshold, "--out", out)
        assert run("eval", trained, "--data", shapes, *flags)[0] == 0
        sheet = np.asarray(Image.open(next((out / "pictures").iterdir())))[24:]  # below the titles
        pictures.append(np.array_split(sheet, 2, axis=1))
    assert (pictures[0][0] != pictures[1][0]).any()
    assert (pictures[0][1] == pictures[1][1]).all()  # the truth


def test_train_prints_nothing_but_json(run, trained, tiny_flags, tmp_path):
    status, out, _ = run("train", "small/botnet50", *tiny_flags, "--out", tmp_path / "run", "--json")
    assert status == 0
    scores = json.loads(out)
    assert list(scores["box"]) == list(METRICS)
    for words in (["--resume", tmp_path / "run", "--json"], ["--json", f"--resume={tmp_path / 'run'}"]):
        status, out, _ = run("train", *words)
        assert (status, json.loads(out)["box"]) == (0, scores["box"])


def test_messages_name_folders_as_they_are(run, trained, tiny_flags):
    status, _, err = run("train", "--resume", trained)
    assert status == 0
    assert f"{trained} is complete" in err


def test_weights_of_a_detector_start_another_one(run, trained, tiny_flags, tmp_path):
    """After one step with a learning rate of next to nothing, the weights are still those that it started from."""
    flags = [*tiny_flags, "--steps", "1", "--lr", "1e-12", "--warmup-lr", "1e-12", "--out", tmp_path / "run"]
    last = trained / "checkpoints" / "last.ckpt"
    status, _, err = run("train", "small/botnet50", *flags, "--weights", last, "--seed", 5)
    assert status == 0
    assert "loaded" in err
    before, after = (dict(load_detector(folder).model.named_parameters()) for folder in (last, tmp_path / "run"))
    assert all(torch.allclose(after[name], before[name], atol=1e-6) for name in before)


@pytest.mark.slow
def test_demo_prints_its_scores_as_json(run, tmp_path, monkeypatch):
    from botvision.experiments import demo

    monkeypatch.setattr(demo, "TRAIN_IMAGES", 8)
    monkeypatch.setattr(demo, "VAL_IMAGES", 4)
    monkeypatch.setattr(demo, "PICTURES", 1)
    status, out, err = run("demo", "--out", tmp_path, "--steps", 1, "--json")
    assert status == 0
    assert list(json.loads(out)["box"]) == list(METRICS)
    picture = re.search(r"picture: (.*)", err)[1]
    assert Path(picture).is_file()


@pytest.mark.slow
def test_ctrl_c_between_two_checkpoints_and_resume(run, tiny_flags, tmp_path):
    out = tmp_path / "run"
    steps, flags = 60, [*tiny_flags, "--steps", "60", "--eval-every", "60", "--save-every", "50", "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "botvision", "train", "small/botnet50", *flags],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    said = ""
    while "training, step 1/" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    process.send_signal(signal.SIGINT)
    printed, rest = process.communicate(timeout=100)
    assert process.returncode == 130, said + rest
    assert printed == ""
    assert f"botvision train --resume {out}" in rest
    assert "Traceback" not in rest
    assert [file.name for file in (out / "checkpoints").iterdir()] == ["last.ckpt"]
    done = torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)["step"]
    assert 1 <= done < 50

    status, _, _ = run("train", "--resume", out)
    assert status == 0
    with (out / "metrics.csv").open(newline="") as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == list(range(1, steps + 1))
    assert torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)["step"] == steps
