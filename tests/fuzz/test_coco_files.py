"""Annotation files changed at random are read as what they say, or refused in one line."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from botvision.data import CocoDetection
from botvision.data.masks import mask_area, run_lengths
from botvision.errors import UserError
from botvision.tasks.detection.coco import coco_scores

HEIGHT, WIDTH = 30, 40
POLYGON = [2, 3, 20, 3, 20, 25, 2, 25]
CONTENT = {
    "info": {},
    "categories": [
        {"id": 90, "name": "brush", "keypoints": ["top", "left_end", "right_end"], "skeleton": [[1, 2], [1, 3]]},
        {"id": 3, "name": "car"},
    ],
    "images": [{"id": n, "file_name": f"{n}.png", "height": HEIGHT, "width": WIDTH} for n in (7, 5)],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 90, "bbox": [2, 3, 18, 22], "segmentation": [POLYGON], "area": 396.0}
        | {"keypoints": [4, 4, 2, 3, 20, 1, 0, 0, 0], "num_keypoints": 2},
        {"id": 2, "image_id": 7, "category_id": 3, "bbox": [0, 0, 1, 30], "iscrowd": 0}
        | {"segmentation": {"size": [HEIGHT, WIDTH], "counts": [0, HEIGHT, HEIGHT * (WIDTH - 1)]}},
        {"id": 3, "image_id": 5, "category_id": 3, "bbox": [0, 0, 1, 30], "iscrowd": 1}
        | {"segmentation": {"size": [HEIGHT, WIDTH], "counts": "0n0bT1"}},
        {"id": 4, "image_id": 5, "category_id": 90, "bbox": [5, 5, 9, 9], "segmentation": []},
    ],
}
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 7, 0.5, 80.0, -0.0, 1e9, 1e308, -1e308, 2**31, 2**63, 2**64, 10**30, 10**4000),
    *(math.nan, math.inf, -math.inf, "", "0", "1", "x", "7.png", "../7.png", "a\0", "\ud800", "ü" * 3000, "zz!", "04"),
    *([], {}, [[]], [[[]]], [0], [1, 2], [1, 2, 3, 4], [POLYGON], [[POLYGON]], [[0, 0, 1e5, 1e5] * 9], [POLYGON * 3]),
    *({"id": 1}, {"size": [HEIGHT, WIDTH], "counts": [1]}, {"size": [1, 2], "counts": ""}, {"counts": {}}),
]


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """The ways to everything inside a value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, part in inside for place in [(*path, key), *places(part, (*path, key))]]


@st.composite
def mutated(draw: st.DrawFn) -> dict:
    """The content with one to four places changed, removed, doubled, exchanged or wrapped."""
    content = copy.deepcopy(CONTENT)
    for _ in range(draw(st.integers(1, 4))):
        where = places(content)
        if not where:
            break
        *path, key = draw(st.sampled_from(where))
        parent: Any = content
        for step in path:
            parent = parent[step]
        match draw(st.sampled_from(["value", "value", "value", "number", "remove", "double", "wrap", "exchange"])):
            case "value":
                parent[key] = copy.deepcopy(draw(st.sampled_from(VALUES)))
            case "number":
                parent[key] = draw(st.one_of(st.integers(), st.floats(), st.floats(-100, 100), st.integers(-5, 50)))
            case "remove":
                del parent[key]
            case "double" if isinstance(parent, list):
                parent.append(copy.deepcopy(parent[key]))
            case "wrap":
                parent[key] = draw(st.sampled_from([[parent[key]], {"x": parent[key]}, str(parent[key])]))
            case "exchange":
                other = draw(st.sampled_from(list(parent) if isinstance(parent, dict) else range(len(parent))))
                parent[key], parent[other] = parent[other], parent[key]
    return content


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mutated")
    for name in ("annotations", "train"):
        (folder / name).mkdir()
    for number in (7, 5):
        Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(folder / "train" / f"{number}.png")
    return folder


def perfect(dataset: CocoDetection) -> list[dict]:
    """The objects of a data set as detections."""
    found = []
    for index, image in enumerate(dataset.images):
        for label, (x1, y1, x2, y2), segmentation, crowd, keypoints in dataset.instances(index):
            result = {"image_id": image.id, "category_id": dataset.categories[label - 1].id, "score": 0.9}
            result["bbox"] = [x1, y1, x2 - x1, y2 - y1]
            if mask_area(segmentation, image.height, image.width):
                result["segmentation"] = run_lengths(segmentation, image.height, image.width)
            if keypoints:
                result["keypoints"] = keypoints
            found += [] if crowd else [result]
    return found


@given(content=mutated(), masks=st.booleans(), keypoints=st.booleans())
@settings(parent=settings.default, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_file_is_read_or_refused_in_one_line(folder, content, masks, keypoints):
    (folder / "annotations" / "instances_train.json").write_text(json.dumps(content))
    try:
        dataset = CocoDetection(folder, "train", masks=masks, keypoints=keypoints)
        items = list(dataset)
    except UserError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 2000
        return
    kinds = ["box", *(["mask"] if masks else []), *(["keypoint"] if keypoints else [])]
    for image, target in items:
        x1, y1, x2, y2 = target["boxes"].unbind(dim=1)
        assert (x1 >= 0).all() and (x1 < x2).all() and (x2 <= image.shape[2]).all()
        assert (y1 >= 0).all() and (y1 < y2).all() and (y2 <= image.shape[1]).all()
        if keypoints:
            assert len(target["keypoints"]) == len(x1) and target["keypoints"].isfinite().all()
    assert sum(len(target["labels"]) for _, target in items) == dataset.objects
    scores = coco_scores(dataset, perfect(dataset), kinds)
    assert {scores[kind]["ap"] for kind in kinds} <= {1.0, None}
    assert (scores["box"]["ap"] is None) == (not dataset.objects)


@given(data=st.binary(max_size=300), start=st.integers(0, 1500), cut=st.integers(0, 3))
@settings(parent=settings.default, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_bytes_are_read_or_refused_in_one_line(folder, data, start, cut):
    whole = json.dumps(CONTENT).encode()
    start = min(start, len(whole))
    end = start if cut == 0 else start + len(data) if cut == 1 else len(whole)  # inserted, overwritten, cut off
    (folder / "annotations" / "instances_train.json").write_bytes(whole[:start] + data + whole[end:])
    try:
        CocoDetection(folder, "train")
    except UserError as error:
        assert "\n" not in str(error)


def test_the_file_as_it_is_can_be_read(folder):
    (folder / "annotations" / "instances_train.json").write_text(json.dumps(CONTENT))
    dataset = CocoDetection(folder, "train")
    assert (dataset.objects, dataset.dropped, dataset.changed) == (3, {"crowd": 1}, {"box without mask": 1})
