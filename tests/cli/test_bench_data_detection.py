"""`botvision bench data --task detection` from end to end, on few and small images."""

import json

import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from botvision.benchmarks.detection_data import FixedSizeCrop
from botvision.cli import main
from botvision.data import write_generated_coco


def run(*words) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["bench", "data", "--task", "detection", *map(str, words)])
    return caught.value.code


@pytest.fixture
def shapes(tmp_path):
    return write_generated_coco(tmp_path / "shapes", train_images=4, val_images=1, image_size=64, seed=0)


@pytest.mark.parametrize("workers", [0, 1])
def test_all_pipelines_are_timed_with_both_jitters(shapes, tmp_path, capsys, workers):
    flags = ("--data", shapes, "--images", 32, "--size", 64, "--repeats", 1, "--workers", workers)
    assert run(*flags, "--json", "--out", tmp_path / "picture.png") == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in found] == ["botvision", "torchvision", "torchvision, tensors"] * 2
    assert len({one["recipe"] for one in found}) == 2
    assert all(one["images_per_second"] > 0 for one in found)
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.width > 500


def test_what_cannot_be_timed_is_refused(shapes, tmp_path, capsys):
    assert run("--data", tmp_path / "nothing") == 2
    assert "COCO" in capsys.readouterr().err
    file = shapes / "annotations" / "instances_train2017.json"
    content = json.loads(file.read_text())
    del content["annotations"][0]["segmentation"]
    file.write_text(json.dumps(content))
    assert run("--data", shapes) == 2
    error = capsys.readouterr().err
    assert "--data" in error
    assert str(file) in error


@pytest.mark.parametrize("shape", [(30, 50), (10, 70), (64, 64), (20, 20)])
def test_the_peer_crops_and_pads_to_a_square_with_its_objects(shape):
    torch.manual_seed(0)
    pixels = torch.arange(1, 1 + shape[0] * shape[1]).reshape(1, *shape)
    masks = tv_tensors.Mask((pixels % 7 == 0).to(torch.uint8))
    boxes = tv_tensors.BoundingBoxes([[0, 0, shape[1], shape[0]]], format="XYXY", canvas_size=shape)
    image, cut_masks, cut_boxes = FixedSizeCrop(32)(tv_tensors.Image(pixels.expand(3, -1, -1)), masks, boxes)
    assert image.shape == (3, 32, 32)
    height, width = (min(side, 32) for side in shape)
    inside = image[0, :height, :width]
    assert torch.equal(inside % 7 == 0, cut_masks[0, :height, :width] > 0)  # cut at the same place
    assert inside.diff(dim=1).unique().tolist() == [1]
    assert cut_masks[0].sum() == (inside % 7 == 0).sum()
    assert cut_boxes.tolist() == [[0, 0, width, height]]
