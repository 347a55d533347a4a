"""Detections in COCO's format, and pictures of them."""

import json
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models.detection.roi_heads import paste_masks_in_image

from botvision.data import Category
from botvision.tasks.detection.drawing import draw_detections
from botvision.tasks.detection.results import above, coco_results

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own

SIZE = (40, 60)
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
    first, second = coco_results(two_detections(), 17, CATEGORIES, SIZE)
    assert json.loads(json.dumps([first, second])) == [first, second]
    assert (first["image_id"], first["category_id"], first["bbox"], first["score"]) == (17, 90, [10, 5, 30, 15], 0.9)
    assert (second["category_id"], second["bbox"], second["score"]) == (3, [3.25, 20, 5.75, 10.5], 0.25)
    for result, mask in zip((first, second), two_detections()["masks"], strict=True):
        assert np.array_equal(coco_mask.decode(result["segmentation"]), mask.numpy())


def test_making_results_leaves_the_detections_as_they_are():
    detections = two_detections()
    coco_results(detections, 17, CATEGORIES, SIZE)
    for name, values in two_detections().items():
        assert torch.equal(detections[name], values), name


def test_no_detection_makes_no_result():
    nothing = {name: values[:0] for name, values in two_detections().items()}
    assert coco_results(nothing, 17, CATEGORIES, SIZE) == []


def test_detections_above_a_score_are_kept_whole():
    kept = above(two_detections(), 0.5)
    assert {name: len(values) for name, values in kept.items()} == dict.fromkeys(kept, 1)
    assert kept["labels"].tolist() == [2]


SIDES = st.integers(1, 90)


@settings(max_examples=100, deadline=None)
@given(height=SIDES, width=SIDES, seed=st.integers(0, 2**32 - 1), inside=st.booleans(), smooth=st.booleans())
@example(height=1, width=1, seed=0, inside=True, smooth=False)
@example(height=64, width=3, seed=0, inside=False, smooth=True)
def test_masks_are_those_of_torchvision_bit_for_bit(height, width, seed, inside, smooth):
    """Boxes of any size, also partly outside the image, of no extent, at its edges, and as large as it is."""
    draw, corner = torch.Generator().manual_seed(seed), torch.tensor([width, height]).float()
    centres, sides = torch.rand(6, 2, generator=draw) * corner, torch.rand(6, 2, generator=draw) ** 3 * 2 * corner
    boxes = torch.cat([centres - sides / 2, centres + sides / 2], dim=1)
    if inside:
        boxes = boxes.clamp(min=0).minimum(corner.repeat(2))
    boxes[0] = torch.tensor([0.0, 0.0, width, height])
    boxes[1] = torch.cat([corner - 0.5, corner])
    cells = 4 if smooth else 28
    masks = torch.rand(6, 1, cells, cells, generator=draw)
    masks = torch.nn.functional.interpolate(masks, size=(28, 28), mode="bilinear")
    masks[2] = 1.0
    found = {"boxes": boxes, "labels": torch.ones(6, dtype=torch.int64), "masks": masks}
    expected = (paste_masks_in_image(masks, boxes, (height, width))[:, 0] > 0.5).numpy().astype(np.uint8)
    encoded = coco_mask.encode(np.asfortranarray(expected.transpose(1, 2, 0)))
    results = coco_results(found, 1, CATEGORIES, (height, width))
    assert [result["segmentation"]["counts"] for result in results] == [runs["counts"].decode() for runs in encoded]


def many_detections(count: int, size: tuple[int, int]) -> dict[str, torch.Tensor]:
    """Detections that all have about the size of the image."""
    height, width = size
    draw = torch.Generator().manual_seed(0)
    return {
        "boxes": torch.tensor([0.0, 0.0, width, height]) + 3 * torch.rand(count, 4, generator=draw) - 1.5,
        "labels": 1 + torch.arange(count) % 2,
        "scores": torch.linspace(0.9, 0.1, count),
        "masks": torch.rand(count, 1, 28, 28, generator=draw),
    }


class LargestTensor(TorchDispatchMode):
    """Notes how many numbers the largest tensor has that an operation makes."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for value in made if isinstance(made, tuple | list) else [made]:
            if isinstance(value, torch.Tensor):
                self.numbers = max(self.numbers, value.numel())
        return made


def test_no_tensor_is_as_large_as_several_masks_of_the_image():
    size = (300, 400)
    found, image = many_detections(50, size), torch.zeros(3, *size, dtype=torch.uint8)
    tracemalloc.start()
    with LargestTensor() as largest:
        results = coco_results(found, 1, CATEGORIES, size)
        draw_detections(image, results, CATEGORIES)
    _, numpy_peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(results) == 50
    assert numpy_peak < 20 * 300 * 400  # 50 masks would have a byte for each pixel of each
    assert 300 * 400 < largest.numbers <= 3 * 300 * 400  # the image itself has three channels


def pixels_of(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture).astype(int)


def test_a_picture_of_a_large_image_has_its_size_and_shows_mask_and_box_where_they_are():
    image = torch.full((3, 400, 640), 128, dtype=torch.uint8)
    masks = torch.zeros(1, 400, 640, dtype=torch.bool)
    masks[0, 220:280, 320:380] = True
    found = {
        "boxes": torch.tensor([[300.0, 200.0, 400.0, 300.0]]),
        "labels": torch.tensor([1]),
        "scores": torch.ones(1),
        "masks": masks,
    }
    picture = draw_detections(image, coco_results(found, 1, CATEGORIES, (400, 640)), CATEGORIES)
    assert picture.size == (640, 400)
    changed = (pixels_of(picture) != 128).any(axis=2)
    assert changed[220:280, 320:380].all()
    assert changed[200:301, 300].all()
    assert changed[300, 300:401].all()
    assert not changed[240:260, 305:318].any()  # inside the box, outside the mask
    assert not changed[310:, :].any()
    assert not changed[:, 410:].any()


def test_a_picture_of_a_small_image_is_enlarged_by_a_whole_number():
    results = coco_results(two_detections(), 1, CATEGORIES, SIZE)
    picture = draw_detections(torch.zeros(3, *SIZE, dtype=torch.uint8), results, CATEGORIES)
    assert picture.size == (60 * 11, 40 * 11)
    box = pixels_of(picture)[5 * 11 : 20 * 11, 10 * 11]
    assert (box.sum(axis=1) > 0).all()


def test_a_stronger_detection_is_drawn_over_a_weaker_one():
    image = torch.zeros(3, 400, 640, dtype=torch.uint8)
    bbox, whole = (
        [100, 100, 200, 200],
        np.asfortranarray(np.pad(np.ones((200, 200), np.uint8), ((100, 100), (100, 340)))),
    )
    runs = {"size": [400, 640], "counts": coco_mask.encode(whole)["counts"].decode()}
    strong, weak = ({"category_id": number, "bbox": bbox, "segmentation": runs} for number in (3, 90))
    first = pixels_of(draw_detections(image, [strong], CATEGORIES))
    both = pixels_of(draw_detections(image, [strong, weak], CATEGORIES))
    assert np.array_equal(both[150, 100], first[150, 100])  # its outline
    inside, alone, other = (
        both[200, 200],
        first[200, 200],
        pixels_of(draw_detections(image, [weak], CATEGORIES))[200, 200],
    )
    assert abs(inside - alone).sum() < abs(inside - other).sum()


def test_weaker_detections_leave_the_name_of_a_stronger_one_as_it_is():
    image = torch.zeros(3, 400, 640, dtype=torch.uint8)
    results = [{"category_id": 3, "bbox": [x, 100, 150, 150], "score": 0.9 - x / 1000} for x in (200, 220, 240)]
    alone, among = (pixels_of(draw_detections(image, rows, CATEGORIES)) for rows in (results[:1], results))
    outside = np.ones(image.shape[1:], dtype=bool)
    outside[100:251, 200:351] = False
    plate = outside & alone.any(axis=2)
    assert plate.sum() > 500
    assert np.array_equal(among[plate], alone[plate])
