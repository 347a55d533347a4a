"""Data that are good, but for models of another task: named as such, with the experiments that train on them."""

import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from botvision.experiments import EXPERIMENTS
from botvision.tasks.classification import Classifier, ClassifierConfig
from botvision.tasks.classification.checkpoint import describe


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """Folders of two classes."""
    root = tmp_path_factory.mktemp("classes") / "data"
    for name in ("train/cat", "train/dog", "val/cat", "val/dog"):
        (root / name).mkdir(parents=True)
        for number in range(2):
            Image.fromarray(np.full((40, 40, 3), 50 * number, dtype=np.uint8)).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def roboflow(shapes, tmp_path_factory):
    """Annotations of objects beside their images, in folders of the names that those of classes lie in."""
    root = tmp_path_factory.mktemp("roboflow") / "data"
    for split, name in (("train", "train2017"), ("val", "val2017")):
        shutil.copytree(shapes / name, root / split)
        shutil.copy(shapes / "annotations" / f"instances_{name}.json", root / split / "_annotations.coco.json")
    return root


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A checkpoint."""
    config = ClassifierConfig(depths=(1, 1, 1, 1), width=8, input_size=64)
    path = tmp_path_factory.mktemp("classifier") / "last.ckpt"
    about = describe(config, ["cat", "dog"], ["cat", "dog"])
    torch.save({"botvision": about, "state_dict": Classifier(config, 2).state_dict(), "step": 1}, path)
    return path


@pytest.fixture
def yolo(tmp_path):
    """Labels of YOLO beside images in folders that could be those of classes."""
    folder = tmp_path / "yolo"
    for name in ("train", "val"):
        (folder / name / "labels").mkdir(parents=True)
        (folder / name / "images").mkdir()
        Image.new("RGB", (40, 40)).save(folder / name / "images" / "a.png")
        (folder / name / "labels" / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (folder / "data.yaml").write_text("train: train/images\nval: val/images\nnames: [cat]\n")
    return folder


@pytest.fixture
def bare_yolo(yolo):
    """The same without the file that names the classes."""
    (yolo / "data.yaml").unlink()
    return yolo


def check_named(line: str, data, kind: str) -> None:
    """The message names the data, their kind, and experiments of that task and no other."""
    assert f"{data}: is data for {kind}" in line
    named = re.findall(r"\w+/\w+", line.partition(f"{data}:")[2])
    assert {EXPERIMENTS[name].task for name in named} == {kind}


@pytest.mark.parametrize("layout", ["shapes", "roboflow", "yolo", "bare_yolo"])
@pytest.mark.parametrize("command", ["train", "eval", "shards"])
def test_objects_for_a_classifier(refusal, request, classifier, tmp_path, layout, command):
    data = request.getfixturevalue(layout)
    words = {"train": ["imagenet/botnet50", "--data", data], "eval": [classifier, "--data", data], "shards": [data]}
    check_named(refusal(command, *words[command], "--out", tmp_path / "out"), data, "detection")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["train", "eval"])
def test_classes_for_a_detector(refusal, finished_run, classes, tmp_path, command):
    model = "small/botnet50" if command == "train" else finished_run
    check_named(refusal(command, model, "--data", classes, "--out", tmp_path / "out"), classes, "classification")
    assert not (tmp_path / "out").exists()


def test_what_is_wrong_with_data_of_the_right_kind_is_still_said(refusal, classes, tmp_path):
    """A stray JSON file beside the classes makes no objects of them."""
    data = shutil.copytree(classes, tmp_path / "data")
    (data / "about.json").write_text("{}")
    shutil.rmtree(data / "val" / "dog")
    line = refusal("train", "imagenet/botnet50", "--data", data, "--out", tmp_path / "out", "--device", "cpu")
    assert "detection" not in line
    assert "dog" in line


@pytest.mark.parametrize("splits", [["train2017"], ["train2017", "val2017"], []])
def test_to_split_a_folder_of_annotated_images_its_files_are_named(refusal, shapes, yolo, tmp_path, splits):
    """Or, of another tool's annotations, the command that makes a file of them."""
    data = tmp_path / "data" if splits else yolo
    for split in splits:
        shutil.copytree(shapes / split, data / split)
        (data / "annotations").mkdir(exist_ok=True)
        shutil.copy(shapes / "annotations" / f"instances_{split}.json", data / "annotations")
    line = refusal("data", "split", data, "--out", tmp_path / "out")
    assert [file for file in sorted(map(str, data.glob("annotations/*"))) if file not in line] == []
    assert f"botvision data {'split' if splits else 'convert'} {data}" in line or len(splits) > 1
