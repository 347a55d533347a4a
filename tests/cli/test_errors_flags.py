"""Flags and files that a command cannot use: one line that names it, exit status 2, nothing written."""

import re
import shutil
import sys

import pytest
import torch

from botvision.cli.messages import message_of
from botvision.experiments import EXPERIMENTS

# --- words ---


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["tain"], "train"),
        (["train", "small/botnet5"], "small/botnet50"),
        (["train", "small/botnet50", "--batchsize", "4"], "--batch-size"),
        (["train", "small/botnet50", "--warmup-step", "4"], "--warmup-steps"),
        (["eval", "x", "--dat", "y"], "--data"),
        (["predict", "x", "y.jpg", "--treshold", "0.5", "--out", "z"], "--threshold"),
        (["train", "small/botnet50", "--steps", "many"], "--steps"),
        (["train", "small/botnet50", "--steps", "4.7"], "--steps"),
        (["train", "small/botnet50", "--depths", "1", "2", "1.5", "1"], "--depths"),
        (["train", "small/botnet50", "--lr", "fast"], "--lr"),
        (["train", "small/botnet50", "--precision", "int8"], "--precision"),
        (["train", "small/botnet50", "--depths", "1", "2"], "--depths"),
        (["train", "--lr", "1"], "EXPERIMENT"),
        (["train", "--resume"], "--resume"),
        (["train", "--resume="], "config.yaml"),
        (["train", "--resume", "--json"], "--resume"),
        (["train", "--resume", "x", "--lr", "1"], "--lr"),
        (["train", "--resume", "x", "--steps", "4.7"], "--steps"),
        (["train", "--resume", "x", "--steps", "0"], "--steps"),
        (["train", "--resume", "x", "--steps", "4", "--epochs", "1"], "--steps and --epochs"),
        (["train", "--resume", "x", "y"], "y"),
        (["train", "small/botnet50", "--resume", "x"], "small/botnet50"),
        (["train", "--resume=x"], "x"),
        (["train", "coco/botnt50"], "did you mean coco/botnet50"),
        (["train", "small/botnet50", "--btach-size", "4"], "--batch-size"),
        (["train", "small/botnet50", "--foo", "4"], "--foo"),
        (["models", "botnt50"], "did you mean botnet50"),
        (["models", "a", "b"], "b"),
        (["models", "botnet50", "--input-size", "64"], "--tree"),
        (["models", "botnet50", "--tree", "--input-size", "0"], "--input-size"),
        (["models", "botnet50", "--tree", "--input-size", "-5"], "--input-size"),
        (["bench", "attention", "--repeats", "0"], "--repeats"),
        (["bench", "attention", "--batch", "0"], "--batch"),
        (["bench", "attention", "--heads", "0"], "--heads"),
        (["bench", "attention", "--head-width", "-1"], "--head-width"),
        (["bench", "attention", "--sizes"], "--sizes"),
        (["eval", "x"], "--data"),
        (["predict", "x", "--out", "y"], "IMAGE"),
        (["demo", "--steps", "0"], "--steps"),
        (["demo", "--steps", "2.7"], "--steps"),
        (["models", "botnet50", "--tree", "--input-size", "64.5"], "--input-size"),
        (["shards", "x", "--out", "y", "--samples-per-shard", "2.5"], "--samples-per-shard"),
        (["bench", "attention", "--repeats", "1.5"], "--repeats"),
        (["bench", "data", "--workers=0.5"], "--workers"),
        (["attend", "x", "y.jpg", "--at", "1", "2.5", "--out", "z"], "--at"),
        (["eval", "x", "--data", "y", "--images", "1.0"], "--images"),
        (["train", "small/botnet50", "--steps", "4", "5"], "5"),
        (["train", "small/botnet50", "--steps"], "--steps"),
    ],
)
def test_a_word_that_is_not_known_or_not_understood(refusal, tmp_path, monkeypatch, words, named):
    monkeypatch.chdir(tmp_path)
    assert named in refusal(*words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--batch-size", "4", "--images-per-device", "3"], "--batch-size"),
        (["--batch-size", "0"], "--batch-size"),
        (["--steps", "-1"], "--steps"),
        (["--save-every", "0"], "--save-every"),
        (["--epochs", "0"], "--epochs"),
        (["--workers", "-1"], "--workers"),
        (["--train-images", "0"], "--train-images"),
        (["--val-images", "-1"], "--val-images"),
        (["--jitter", "2", "1"], "--jitter"),
        (["--jitter", "0", "1"], "--jitter"),
        (["--flip", "1.5"], "--flip"),
        (["--seed", "-1"], "--seed"),
        (["--backbone", "botnet5"], "botnet50"),
        (["--weights", "nowhere.pth"], "nowhere.pth"),
        (["--train-split", "test"], "instances_test2017.json"),
    ],
)
def test_a_setting_that_cannot_run(refused_training, flags, named):
    assert named in refused_training(*flags)


SETTINGS = [
    "--input-size 0",
    "--width 0",
    "--depths 1 0 1 1",
    "--fpn-channels 0",
    "--box-head-width 0",
    "--mask-head-width 0",
    "--mask-head-depth -1",
    "--anchor-ratios",
    "--anchor-ratios 1 -1",
    "--anchor-scale 0",
    "--rpn-foreground-iou 0.1",
    "--rpn-foreground-iou nan",
    "--rpn-nms 2",
    "--rpn-samples 0",
    "--roi-samples 0",
    "--proposals 0 0",
    "--detections 0",
    "--norm-momentum 5",
    "--norm-epsilon 0",
    "--lr 0",
    "--lr inf",
    "--momentum -1",
    "--momentum 2",
    "--weight-decay -1",
    "--clip-norm -1",
    "--warmup-steps -1",
    "--decay-at 2",
    "--seed -1",
    "--epochs inf",
    "--detections 1000000000000",
    "--lr 1e300",
]


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_out_of_its_limits_is_refused_before_it_is_printed(refusal, setting):
    flag, *_ = setting.split()
    line = refusal("train", "small/botnet50", *setting.split(), "--print-config")
    assert flag in line


@pytest.mark.parametrize(
    ("experiment", "detector"),
    [
        ("coco/botnet50", "detr"),
        ("small/faster_botnet50", "detr"),
        ("table5/botnet101", "detr"),
        ("coco/detr_botnet50", "mask_rcnn"),
        ("small/detr_botnet50", "faster_rcnn"),
        ("small/detr_botnet50", "keypoint_rcnn"),
    ],
)
def test_a_detector_with_other_settings_is_refused_with_the_experiments_that_have_them(refusal, experiment, detector):
    line = refusal("train", experiment, "--detector", detector, "--print-config")
    assert line.startswith("botvision: --detector: ")
    assert line.count("--") == 1  # a detector is no flag
    named = re.findall(r"\w+/\w+", line)
    assert len(named) == 2
    assert {EXPERIMENTS[name].config.model.detector for name in named} == {detector}


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--batch-size", "0"], "--batch-size"),
        (["--workers", "-1"], "--workers"),
        (["--images", "0"], "--images"),
        (["--pictures", "-1"], "--pictures"),
        (["--device", "tpu"], "--device"),
    ],
)
def test_an_evaluation_that_cannot_run(refusal, finished_run, shapes, tmp_path, flags, named):
    assert named in refusal("eval", finished_run, "--data", shapes, "--out", tmp_path / "out", *flags)
    assert not (tmp_path / "out").exists()


def test_pictures_need_a_folder_which_is_said_before_the_work(refusal, finished_run, shapes):
    checkpoint = finished_run / "checkpoints" / "last.ckpt"
    assert "out" in refusal("eval", checkpoint, "--data", shapes, "--pictures", 1)


def test_a_threshold_above_one_is_refused(refusal, finished_run, shapes, tmp_path):
    file = shapes / "val2017" / "000000000009.jpg"
    assert "--threshold" in refusal("predict", finished_run, file, "--out", tmp_path / "out", "--threshold", 1.5)
    assert not (tmp_path / "out").exists()


def test_a_run_folder_that_is_taken(refusal, finished_run, tiny_flags):
    before = sorted(finished_run.rglob("*"))
    assert str(finished_run) in refusal("train", "small/botnet50", *tiny_flags, "--out", finished_run)
    assert sorted(finished_run.rglob("*")) == before


@pytest.mark.skipif(sys.platform == "win32", reason="files are no folders elsewhere")
def test_what_the_system_refuses_is_one_line_too(refusal, finished_run, shapes, tmp_path):
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "out"
    assert str(tmp_path / "file") in refusal("eval", finished_run, "--data", shapes, "--out", out, "--images", 1)
    image = shapes / "val2017" / "000000000009.jpg"
    line = refusal("predict", finished_run, image, "--out", tmp_path / "file")
    assert str(tmp_path / "file") in line
    assert "choose another folder" in line


def test_batch_norm_of_one_value_names_the_flag_that_gives_more(refused_training):
    """At 64 pixels the last level of the pyramid is one cell, so that one image is one value of each channel."""
    line = refused_training("--images-per-device", 1)
    assert line.startswith("botvision: --images-per-device: ")
    assert "batch norm" in line


def test_what_no_memory_holds_is_one_line():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert "memory" in message_of(caught.value)


# --- checkpoints ---


@pytest.mark.parametrize("command", ["eval", "predict"])
def test_a_checkpoint_that_is_none(refusal, shapes, tmp_path, command):
    rest = (
        ["--data", shapes]
        if command == "eval"
        else [shapes / "train2017" / "000000000001.jpg", "--out", tmp_path / "out"]
    )
    assert str(tmp_path / "gone") in refusal(command, tmp_path / "gone", *rest)
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    assert str(tmp_path / "text.ckpt") in refusal(command, tmp_path / "text.ckpt", *rest)
    torch.save({"weight": torch.ones(3)}, tmp_path / "other.pth")
    assert str(tmp_path / "other.pth") in refusal(command, tmp_path / "other.pth", *rest)
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_of_another_model(refusal, finished_run, shapes, tmp_path):
    path = tmp_path / "wrong.ckpt"
    content = torch.load(finished_run / "checkpoints" / "last.ckpt", weights_only=True)
    content["botvision"]["model"]["width"] = 16
    torch.save(content, path)
    assert str(path) in refusal("eval", path, "--data", shapes)


def test_a_detector_of_other_categories(refusal, change, finished_run, data):
    change(data / "annotations" / "instances_val2017.json", lambda c: c["categories"][0].update(name="disc"))
    assert "categories" in refusal("eval", finished_run, "--data", data)


def test_weights_that_fit_nothing(refused_training, tmp_path):
    torch.save({"other": torch.ones(3)}, tmp_path / "other.pth")
    assert "other" in refused_training("--weights", tmp_path / "other.pth")


# --- resume ---


@pytest.fixture
def a_run(finished_run, tmp_path):
    """A copy of a finished run, with two more steps to go."""
    folder = shutil.copytree(finished_run, tmp_path / "run")
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("steps: 4\n", "steps: 6\n"))
    return folder


def test_resume_of_what_is_no_run(refusal, tmp_path):
    assert str(tmp_path / "gone") in refusal("train", "--resume", tmp_path / "gone")
    assert str(tmp_path) in refusal("train", "--resume", tmp_path)


def test_resume_of_a_run_without_a_checkpoint(refusal, a_run):
    shutil.rmtree(a_run / "checkpoints")
    assert str(a_run / "checkpoints" / "last.ckpt") in refusal("train", "--resume", a_run)


def test_resume_with_a_damaged_checkpoint(refusal, a_run):
    last = a_run / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    (a_run / "checkpoints" / "before.ckpt").unlink()
    assert str(last) in refusal("train", "--resume", a_run)


@pytest.mark.parametrize(
    ("part", "value"), [("step", None), ("botvision", "text"), ("botvision", {}), ("state_dict", 1)]
)
def test_resume_with_a_checkpoint_of_other_parts(refusal, a_run, part, value):
    last = a_run / "checkpoints" / "last.ckpt"
    (a_run / "checkpoints" / "before.ckpt").unlink()
    torch.save(torch.load(last, weights_only=True) | {part: value}, last)
    line = refusal("train", "--resume", a_run)
    assert str(last) in line
    assert part in line


def test_a_run_from_before_a_field_was_there_goes_on(run, a_run):
    last = a_run / "checkpoints" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    config = next(part for part in content["botvision"].values() if isinstance(part, dict))
    assert config.pop("norm_epsilon")
    torch.save(content, last)
    steps = content["step"] + 1
    status, _, err = run("train", "--resume", a_run, "--steps", steps)
    assert status == 0, err
    assert torch.load(last, weights_only=True)["step"] == steps


def test_resume_with_a_configuration_that_is_no_text(refusal, a_run):
    (a_run / "config.yaml").write_bytes(b"experiment: \xff\xfe\n")
    assert str(a_run / "config.yaml") in refusal("train", "--resume", a_run)


def test_resume_of_another_model_keeps_the_run(refusal, a_run):
    config = a_run / "config.yaml"
    config.write_text(config.read_text().replace("width: 8\n", "width: 16\n"))
    assert str(a_run / "checkpoints" / "last.ckpt") in refusal("train", "--resume", a_run)
    assert (a_run / "checkpoints" / "last.ckpt").exists()


def test_resume_with_a_value_out_of_its_limits(refusal, a_run):
    config = a_run / "config.yaml"
    config.write_text(config.read_text().replace("momentum: 0.9\n", "momentum: 2\n"))
    line = refusal("train", "--resume", a_run)
    assert str(config) in line
    assert "momentum" in line


def test_resume_with_a_value_of_the_wrong_type(refusal, a_run):
    config = a_run / "config.yaml"
    config.write_text(config.read_text().replace("batch_size: 4\n", "batch_size: four\n"))
    line = refusal("train", "--resume", a_run)
    assert str(config) in line
    assert "batch_size" in line
