"""The folder in which the pages' examples run: what a reader who followed the page would have by then."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.models import resnet50

from botvision.experiments import EXPERIMENTS
from botvision.layers import SPATIAL_LAYERS


def write_labelme(coco: Path, images: Path, out: Path) -> None:
    """A data set as LabelMe would have written it: each object as the corners of its box."""
    content = json.loads(coco.read_text(encoding="utf-8"))
    names = {category["id"]: category["name"] for category in content["categories"]}
    out.mkdir()
    for image in content["images"]:
        shapes = []
        for record in content["annotations"]:
            if record["image_id"] == image["id"]:
                x, y, width, height = record["bbox"]
                points = [[x, y], [x + width, y], [x + width, y + height], [x, y + height]]
                shapes.append({"label": names[record["category_id"]], "points": points, "shape_type": "polygon"})
        about = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": image["file_name"], "imageData": None}
        about |= {"imageHeight": image["height"], "imageWidth": image["width"]}
        (out / image["file_name"]).with_suffix(".json").write_text(json.dumps(about), encoding="utf-8")
        shutil.copy(images / image["file_name"], out)


@pytest.fixture
def reader(tmp_path, monkeypatch, shapes, finished_run, tiny_experiment):
    """A working folder with photographs, labelled ones, runs and weights, where small experiments are tiny."""
    write_labelme(shapes / "annotations" / "instances_train2017.json", shapes / "train2017", tmp_path / "labelled")
    shutil.copytree(shapes, tmp_path / "runs" / "demo" / "data")
    for run in ("demo/run", "coco-botnet50"):
        shutil.copytree(finished_run, tmp_path / "runs" / run)
    (tmp_path / "photos").mkdir()
    for number, file in enumerate(sorted((shapes / "val2017").iterdir())):
        picture = Image.open(file).resize((160, 120))
        picture.save(tmp_path / "photos" / f"{'abcdefgh'[number]}.jpg")
        for split in ("train", "val"):
            folder = tmp_path / "my-images" / split / ("cat", "dog")[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            picture.rotate(10 * number + len(split)).save(folder / f"{number}.jpg")
    shutil.copy(tmp_path / "photos" / "a.jpg", tmp_path / "photo.jpg")
    torch.save(resnet50().state_dict(), tmp_path / "resnet50.pth")
    tiny = replace(EXPERIMENTS["small/botnet50"], build=lambda options: tiny_experiment)
    monkeypatch.setitem(EXPERIMENTS, "small/botnet50", tiny)
    for name in ("depthwise",):  # what a page adds to the registry goes again
        monkeypatch.setitem(SPATIAL_LAYERS, name, SPATIAL_LAYERS["conv"])
    monkeypatch.chdir(tmp_path)
    return tmp_path
