"""Two processes over gloo train detectors and classifiers as one process does with the whole batch."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from botvision.checkpoint import read_checkpoint
from botvision.data import write_generated_coco
from botvision.training.curves import read_curves

pytestmark = pytest.mark.slow  # each process imports PyTorch
SCRIPT = Path(__file__).with_name("two_trainings.py")
CASES = ("mask_rcnn-batch", "mask_rcnn-frozen", "mask_rcnn-group", "detr-batch", "classifier-batch", "classifier-group")
CASES += ("classifier-group-damaged",)
SHARDED = ("mask_rcnn-group-fsdp", "classifier-batch-fsdp")


def torchrun(*words: object) -> list[str]:
    """Two processes on this machine, which find a free port."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return [*start, *map(str, words)]


def in_class_folders(objects: Path, folder: Path) -> None:
    """The same images in folders of two classes."""
    for split in ("train", "val"):
        for number, image in enumerate(sorted(objects.glob(f"{split}*/*"))):
            own = folder / split / "ab"[number % 2]
            own.mkdir(parents=True, exist_ok=True)
            (own / image.name).write_bytes(image.read_bytes())


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The runs of one process and of two, in the folders one and two; five images to evaluate on."""
    root = tmp_path_factory.mktemp("whole")
    objects = write_generated_coco(root / "data" / "objects", train_images=8, val_images=5, image_size=64, seed=0)
    in_class_folders(objects, root / "data" / "classes")
    damaged = shutil.copytree(root / "data" / "classes", root / "data" / "damaged")
    os.truncate(next((damaged / "train").rglob("*.jpg")), 300)
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    for name, command in {"one": [sys.executable, str(SCRIPT)], "two": torchrun(SCRIPT)}.items():
        done = subprocess.run(
            [*command, root / "data", root / name],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
    return root


@pytest.mark.parametrize("case", [*CASES, *SHARDED])
def test_weights_and_losses_are_those_of_one_process(folder, case):
    one, two = (folder / name / case for name in ("one", "two"))
    own, other = (read_checkpoint(run / "checkpoints" / "last.ckpt")["state_dict"] for run in (two, one))
    assert own.keys() == other.keys()
    statistics = {name for name in own if "running_" in name}
    apart = torch.cat([~torch.isclose(own[name], other[name], atol=1e-5).flatten() for name in own.keys() - statistics])
    # AdamW divides a gradient by its own size: where it is nothing but rounding, the weight moves all the same.
    assert apart.float().mean() <= (1e-5 if case.startswith("detr") else 0)
    for name in statistics:  # variances, of which some are large
        torch.testing.assert_close(own[name], other[name], rtol=1e-3, atol=1e-4)
    losses, expected = (read_curves(run / "metrics.csv")["loss"] for run in (two, one))
    assert losses == [(step, pytest.approx(loss, abs=1e-4)) for step, loss in expected]
    assert len(losses) == 10


@pytest.mark.parametrize("case", [*CASES, *SHARDED])
def test_scores_are_those_of_one_process(folder, case):
    """Of five images, which two processes cannot share evenly."""
    one, two = (json.loads((folder / name / case / "eval" / "metrics.json").read_text()) for name in ("one", "two"))
    rounded = {name: two.pop(name) for name in ("loss", "ece") if name in one}  # sums of what the weights give
    assert rounded == pytest.approx({name: one.pop(name) for name in rounded}, abs=1e-5)
    assert two == one


@pytest.mark.parametrize(("case", "data"), [("mask_rcnn-batch", "objects"), ("classifier-batch", "classes")])
def test_eval_under_torchrun_gives_the_numbers_of_one_process(folder, tmp_path, case, data):
    words = ["eval", folder / "one" / case, "--data", folder / "data" / data, "--json", "--batch-size", "1"]
    found = []
    for number, command in enumerate(([sys.executable], torchrun())):
        out = tmp_path / str(number)
        line = [*command, "-m", "botvision", *map(str, words), "--out", str(out)]
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=200)
        assert done.returncode == 0, done.stderr
        found.append((json.loads(done.stdout), {file.name for file in out.iterdir()}))
        name = "detections.json" if data == "objects" else "predictions.csv"
        found[-1] = (*found[-1], (out / name).read_text())
    assert found[1] == found[0]  # to the last digit, and written by one process alone
