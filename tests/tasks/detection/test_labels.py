"""Names in pictures: none on top of another, each at its box, and those of one object one below the other."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageColor

from botvision.data import Category
from botvision.tasks.detection.drawing import COLOURS, draw_detections
from botvision.tasks.detection.labels import place_plates, stacks


@st.composite
def crowds(draw):
    """Boxes in a picture, many of them alike, and the sizes of their plates."""
    width, height = draw(st.integers(1, 200)), draw(st.integers(1, 200))
    boxes = []
    for _ in range(draw(st.integers(1, 25))):
        x, y = draw(st.floats(0, width - 0.5)), draw(st.floats(0, height - 0.5))
        box = [x, y, draw(st.floats(x, width)), draw(st.floats(y, height))]
        boxes.append(draw(st.sampled_from([box, *boxes])))
    sizes = [(draw(st.integers(1, 90)), draw(st.integers(1, 20))) for _ in boxes]
    return np.array(boxes), sizes, (width, height)


@given(crowds())
@settings(max_examples=200, deadline=None)
def test_no_pixel_has_two_names(crowd):
    boxes, sizes, (width, height) = crowd
    names = np.zeros((height, width), int)
    for plate, size in zip(place_plates(boxes, sizes, (width, height)), sizes, strict=True):
        if plate is not None:
            left, top, right, bottom = plate
            assert (right - left + 1, bottom - top + 1) == size
            assert 0 <= left <= right < width
            assert 0 <= top <= bottom < height
            names[top : bottom + 1, left : right + 1] += 1
    assert names.max() <= 1


@given(crowds())
@settings(max_examples=100, deadline=None)
def test_a_name_is_at_its_box_and_the_strongest_has_one(crowd):
    boxes, sizes, picture = crowd
    plates = place_plates(boxes, sizes, picture)
    assert (plates[0] is not None) == (sizes[0][0] <= picture[0] and sizes[0][1] <= picture[1])
    for stack in stacks(boxes):
        plate, (x1, y1, x2, y2) = plates[stack[0]], boxes[stack[0]]
        if len(stack) == 1 and plate is not None:
            assert max(plate[0] - x2, x1 - plate[2] - 1) <= 1
            assert max(plate[1] - y2, y1 - plate[3] - 1) <= 1


@given(st.integers(2, 6), st.integers(0, 100), st.integers(0, 300), st.integers(60, 300))
@settings(max_examples=50, deadline=None)
def test_guesses_about_one_object_are_one_below_the_other(count, x, y, side):
    box = np.array([x, y, x + side, y + side], float)
    boxes = box + np.linspace(0, side / 40, count)[:, None] * [1, 0, 1, 0]
    plates = place_plates(boxes, [(40 + 5 * n, 12) for n in range(count)], (640, 640))
    assert len({left for left, *_ in plates}) == 1
    tops = [top for _, top, *_ in plates]
    assert tops == list(range(tops[0], tops[0] + 12 * count, 12))


def test_most_names_of_a_crowd_are_written():
    random = np.random.default_rng(0)
    corners = random.uniform(0, 380, (60, 2))
    boxes = np.concatenate([corners, np.minimum(corners + random.uniform(1, 150, (60, 2)), [500, 400])], axis=1)
    assert sum(plate is not None for plate in place_plates(boxes, [(60, 16)] * 60, (500, 400))) > 40


def test_boxes_that_overlap_less_are_objects_of_their_own():
    boxes = np.array([[0, 0, 100, 100], [0, 0, 100, 79], [0, 0, 100, 81], [0, 0, 100, 64], [5, 5, 5, 5]])
    assert stacks(boxes) == [[0, 2], [1, 3], [4]]


def test_every_box_around_one_object_can_be_seen():
    categories = [Category(number, f"kind {number}") for number in range(1, 4)]
    results = [{"category_id": number, "bbox": [100, 100, 200, 150], "score": 0.9} for number in range(1, 4)]
    picture = np.asarray(draw_detections(torch.zeros(3, 640, 640, dtype=torch.uint8), results, categories))
    for colour in COLOURS[:3]:
        seen = (picture == ImageColor.getrgb(colour)).all(axis=2)
        assert seen[170, :].any()
        assert seen[:, 250].any()
