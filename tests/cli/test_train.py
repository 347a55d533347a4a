"""`botvision train` for classifiers, from end to end: recipes, small versions, refusals, and evaluation elsewhere."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from botvision.experiments import train_by
from botvision.tasks.classification.checkpoint import load_classifier

FLAGS = "--depths 1 1 1 1 --width 8 --input-size 64 --batch-size 8 --device cpu --workers 0 --precision float32"
SMALL = FLAGS.split()
SLURM_JOB = {f"SLURM_{name}": "0" for name in ("PROCID", "LOCALID", "NODEID")}
SLURM_JOB |= {f"SLURM_{name}": "1" for name in ("NTASKS", "NNODES", "NTASKS_PER_NODE")} | {"SLURM_JOB_ID": "1234"}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two classes, 8 + 8 images each."""
    root, noise = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("dark", "light"):
            (root / split / name).mkdir(parents=True)
            for number in range(8):
                pixels = noise.integers(0, 130, (40, 40, 3)) + (120 if name == "light" else 0)
                Image.fromarray(pixels.astype(np.uint8)).save(root / split / name / f"{number}.png")
    return root


def printed_config(run, *words) -> dict:
    status, out, err = run("train", *words, "--print-config")
    assert (status, err) == (0, "")
    return yaml.safe_load(out)


@pytest.mark.parametrize("recipe", ["regular", "improved", "scaling"])
def test_flags_change_the_recipe_wherever_they_stand(run, recipe):
    expected = train_by(recipe, "senet_s1")
    for words in (["--recipe", recipe, "--lr", "0.3"], ["--lr", "0.3", f"--recipe={recipe}"]):
        config = printed_config(run, "imagenet/senet_s1", *words)
        assert config["task"] == "classification"
        assert config["model"]["model"] == "senet_s1"
        assert config["optimizer"]["lr"] == 0.3
        assert config["optimizer"]["weight_decay"] == expected.optimizer.weight_decay
        assert (config["run"]["epochs"], config["run"]["batch_size"]) == (expected.run.epochs, expected.run.batch_size)


def test_the_small_version_of_a_table_keeps_its_recipe(run):
    config = printed_config(run, "table10/botnet50_s1", "--smoke", "--steps", 20)
    assert (config["model"]["width"], config["model"]["input_size"], config["run"]["steps"]) == (16, 64, 20)
    assert (config["data"]["randaugment"], config["optimizer"]["label_smoothing"]) == ([2, 10], 0.1)


@pytest.mark.parametrize("experiment", ["imagenet/botnet50 --smoke", "demo/botnet50"])
def test_epochs_are_instead_of_the_steps_of_an_experiment(run, experiment):
    assert printed_config(run, *experiment.split())["run"]["steps"] > 1
    for epochs in ("--epochs 3", "--epochs=3"):
        config = printed_config(run, *experiment.split(), *epochs.split())
        assert (config["run"]["epochs"], config["run"]["steps"]) == (3, None)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("table9/botnet50 --recipe improved", "--recipe"),
        ("imagenet/botnet50 --recipe improvd", "improved"),
        ("coco/botnet50 --recipe improved", "--recipe"),
        ("coco/botnet50 --smoke", "--smoke"),
        ("imagenet/botnet5", "imagenet/botnet50"),
        ("imagenet", "imagenet/MODEL"),
        ("imagenet/botnet50", "--data"),
        ("imagenet/botnet50 --freeze c6", "c5"),
        ("imagenet/botnet50 --data x --freeze c2", "weights"),
        ("imagenet/botnet50 --data x", "x"),
        ("imagenet/botnet50 --crop-scale 0.5 0.2", "--crop-scale"),
        ("imagenet/botnet50 --crop-ratio 0 1", "--crop-ratio"),
        ("imagenet/botnet50 --randaugment 2 31", "--randaugment"),
        ("imagenet/botnet50 --randaugment 2", "--randaugment"),
        ("imagenet/botnet50 --mixup -1", "--mixup"),
        ("imagenet/botnet50 --cutmix -1", "--cutmix"),
        ("imagenet/botnet50 --flip 2", "--flip"),
        ("imagenet/botnet50 --label-smoothing 1", "--label-smoothing"),
        ("imagenet/botnet50 --ema-decay 1", "--ema-decay"),
        ("imagenet/botnet50 --warmup-epochs -1", "--warmup-epochs"),
        ("imagenet/botnet50 --dropout 1", "--dropout"),
        ("imagenet/botnet50 --spatial.c5 lamda", "lambda"),
        ("coco/botnet50 --spatial.c6 lambda", "c5"),
        ("imagenet/botnet50 --steps 4 --epochs=1", "--steps and --epochs"),
    ],
)
def test_what_cannot_run_is_refused_in_one_line_and_writes_nothing(run, tmp_path, monkeypatch, words, named):
    monkeypatch.chdir(tmp_path)
    status, out, err = run("train", *words.split())
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert named in err
    assert list(tmp_path.iterdir()) == []


def test_an_experiment_trains_with_another_spatial_layer(run, images, tmp_path):
    words = ("--data", images, "--out", tmp_path / "run", *SMALL, "--spatial.c5", "lambda", "--steps", 1)
    assert run("train", "imagenet/resnet50", *words, "--warmup-epochs", 0)[0] == 0
    model = load_classifier(tmp_path / "run").model
    layers = {name: type(module).__name__ for name, module in model.named_modules()}
    assert [name for name, kind in layers.items() if kind == "LambdaLayer"] == ["network.layer4.0.lambda_layer"]


def test_a_warm_up_as_long_as_the_run(run, images, tmp_path):
    out = tmp_path / "run"
    status, _, err = run("train", "imagenet/botnet50", "--data", images, "--out", out, *SMALL, "--epochs", 2)
    assert status == 2
    assert "--warmup-epochs" in err
    assert not out.exists()


@pytest.mark.slow
def test_a_run_evaluates_to_the_same_scores_in_a_fresh_process_and_resumes(run, images, tmp_path):
    folder = tmp_path / "run"
    flags = ["--warmup-epochs", "0", "--ema-decay", "0.5", "--steps", "6", "--eval-every", "6", "--lr", "2", "--out"]
    status, out, err = run("train", "imagenet/botnet50_s1", "--data", images, *SMALL, *flags, folder, "--json")
    assert status == 0
    scores = json.loads(out)
    words = [sys.executable, "-m", "botvision", "eval", folder, "--data", images, "--device", "cpu", "--json"]
    evaluated = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert evaluated.returncode == 0, evaluated.stderr
    again = json.loads(evaluated.stdout)
    assert (again["top1"], again["images"]) == (scores["top1"], 16)
    assert again["loss"] == pytest.approx(scores["loss"], rel=1e-5)
    status, out, err = run("train", "--resume", folder, "--json")
    assert status == 0
    assert "6 of 6 steps" in err
    assert json.loads(out) == scores
    status, out, _ = run("train", "imagenet/botnet50_s1", "--data", images, *SMALL, *flags, tmp_path / "other")
    assert "top-1 (%)" in out


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 75), (signal.SIGUSR1, 75)])
def test_a_signal_to_the_whole_group_ends_the_run_after_its_step(images, tmp_path, number, status):
    """As a terminal, `timeout` and schedulers send it: to the processes that read images too. In a job of SLURM."""
    flags = f"--data {images} --steps 3000 --warmup-epochs 0 --eval-every 3000 --out {tmp_path / 'run'}".split()
    words = [sys.executable, "-m", "botvision", "train", "imagenet/botnet50", *SMALL, *flags, "--workers", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **SLURM_JOB}
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    said = ""
    while "training, step 1/" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    if sys.platform == "linux":  # what reads images has a group of its own
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert any(os.getpgid(int(child)) == int(child) for child in children)
        for child in children:  # SLURM signals every process of a job
            os.kill(int(child), number)
    os.killpg(process.pid, number)
    _, rest = process.communicate(timeout=100)
    assert process.returncode == status, said + rest
    assert "botvision train --resume" in rest
    assert "Traceback" not in rest
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()


def test_the_same_command_goes_on_and_another_one_is_told_what_differs(run, refusal, images, tmp_path):
    words = ["train", "imagenet/botnet50", "--data", images, "--out", tmp_path / "run", *SMALL, "--warmup-epochs", 0]
    assert run(*words, "--steps", 1)[0] == 0
    status, out, err = run(*words, "--steps", 1, "--json", "--log-every", 1)
    assert (status, "complete" in err, json.loads(out)["images"]) == (0, True, 16)
    others = {"--steps 2": "--steps --epochs", "--steps 1 --lr 0.7": "--lr 0.7"}
    for more, named in others.items():
        line = refusal(*words, *more.split())
        assert all(part in line for part in [*named.split(), "--out", f"botvision train --resume '{tmp_path / 'run'}'"])
    assert run("train", "--resume", tmp_path / "run", "--steps", 2)[0] == 0
    assert run(*words, "--steps", 2)[0] == 0
