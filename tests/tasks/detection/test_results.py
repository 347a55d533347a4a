"""Detections in COCO's format, and pictures of them."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from botvision.data import Category
from botvision.tasks.detection.drawing import draw_detections
from botvision.tasks.detection.results import above, coco_results

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own

CATEGORIES = [Category(3, "car"), Category(90, "toothbrush")]


def two_detections() -> dict[str, torch.Tensor]:
    masks = torch.zeros(2, 40, 60, dtype=torch.bool)
    masks[0, 5:20, 10:40] = True
    masks[1, 20:30, 3:9] = True
    return {
        "boxes": torch.tensor([[10.0, 5.0, 40.0, 20.0], [3.25, 20.0, 9.0, 30.5]]),
        "labels": torch.tensor([2, 1]),
        "scores": torch.tensor([0.9, 0.25]),
        "masks": masks,
    }


def test_results_are_what_coco_means():
    first, second = coco_results(two_detections(), 17, CATEGORIES)
    assert json.loads(json.dumps([first, second])) == [first, second]
    assert (first["image_id"], first["category_id"], first["bbox"], first["score"]) == (17, 90, [10, 5, 30, 15], 0.9)
    assert (second["category_id"], second["bbox"], second["score"]) == (3, [3.25, 20, 5.75, 10.5], 0.25)
    for result, mask in zip((first, second), two_detections()["masks"], strict=True):
        assert np.array_equal(coco_mask.decode(result["segmentation"]), mask.numpy())


def test_making_results_leaves_the_detections_as_they_are():
    detections = two_detections()
    coco_results(detections, 17, CATEGORIES)
    for name, values in two_detections().items():
        assert torch.equal(detections[name], values), name


def test_no_detection_makes_no_result():
    nothing = {name: values[:0] for name, values in two_detections().items()}
    assert coco_results(nothing, 17, CATEGORIES) == []


def test_detections_above_a_score_are_kept_whole():
    kept = above(two_detections(), 0.5)
    assert {name: len(values) for name, values in kept.items()} == dict.fromkeys(kept, 1)
    assert kept["labels"].tolist() == [2]


def pixels_of(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture).astype(int)


def test_a_picture_of_a_large_image_has_its_size_and_shows_mask_and_box_where_they_are():
    image = torch.full((3, 400, 600), 128, dtype=torch.uint8)
    masks = torch.zeros(1, 400, 600, dtype=torch.bool)
    masks[0, 220:280, 320:380] = True
    found = {
        "boxes": torch.tensor([[300.0, 200.0, 400.0, 300.0]]),
        "labels": torch.tensor([1]),
        "scores": torch.ones(1),
        "masks": masks,
    }
    picture = draw_detections(image, found, CATEGORIES)
    assert picture.size == (600, 400)
    changed = (pixels_of(picture) != 128).any(axis=2)
    assert changed[220:280, 320:380].all()
    assert changed[200:301, 300].all()
    assert changed[300, 300:401].all()
    assert not changed[240:260, 305:318].any()  # inside the box, outside the mask
    assert not changed[310:, :].any()
    assert not changed[:, 410:].any()


def test_a_picture_of_a_small_image_is_enlarged_by_a_whole_number():
    picture = draw_detections(torch.zeros(3, 40, 60, dtype=torch.uint8), two_detections(), CATEGORIES)
    assert picture.size == (60 * 6, 40 * 6)
    box = pixels_of(picture)[5 * 6 : 20 * 6, 10 * 6]
    assert (box.sum(axis=1) > 0).all()
