"""COCO's numbers for keypoints against pycocotools, on made-up people and on objects with other keypoints."""

import io
import json
from contextlib import redirect_stdout

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval, Params

from botvision.data import CocoDetection
from botvision.tasks.detection.coco import coco_scores, scores_table
from botvision.tasks.detection.truth import sigma

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own

PARTS = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
COCOS = ["nose", *(f"{side}_{part}" for part in PARTS for side in ("left", "right"))]
OTHERS = ["head", "tail", "left_paw", "right_paw"]
SIDE = 400


def annotation(rng: np.random.Generator, number: int, keypoints: int) -> dict:
    """An object of any size with some of its keypoints, or none, or a crowd; some have a mask smaller than the box."""
    width, height = rng.integers(10, 250, size=2).tolist()
    x, y = (int(rng.integers(0, SIDE - side)) for side in (width, height))
    points = rng.uniform([x, y], [x + width, y + height], size=(keypoints, 2)).round()
    visibility = rng.integers(0, 3, keypoints) * int(rng.random() > 0.2)
    points[visibility == 0] = 0
    corners = (
        [x, y, x + width, y, x, y + height]
        if rng.random() < 0.5
        else [x, y, x + width, y, x + width, y + height, x, y + height]
    )
    crowd = int(rng.random() < 0.1)
    flat = np.column_stack([points, visibility]).ravel().tolist()
    made = {"id": number, "image_id": int(rng.integers(1, 9)), "category_id": 1, "bbox": [x, y, width, height]}
    made |= {"segmentation": [corners], "keypoints": [0] * len(flat) if crowd else flat, "iscrowd": crowd}
    made["area"] = float(coco_mask.area(coco_mask.merge(coco_mask.frPyObjects([corners], SIDE, SIDE))))
    return made | {"num_keypoints": int((np.array(made["keypoints"][2::3]) > 0).sum())}


@pytest.fixture(scope="module", params=[COCOS, OTHERS], ids=["cocos", "others"])
def dataset(request, tmp_path_factory) -> CocoDetection:
    """Eight images of 70 objects, a category without objects, and one without keypoints."""
    folder = tmp_path_factory.mktemp("people")
    rng = np.random.default_rng(0)
    content = {
        "categories": [
            {"id": 0, "name": "nobody", "keypoints": request.param},
            {"id": 1, "name": "person", "keypoints": request.param},
            {"id": 5, "name": "box"},
        ],
        "images": [{"id": n, "file_name": "a.png", "height": SIDE, "width": SIDE} for n in range(1, 9)],
        "annotations": [annotation(rng, number, len(request.param)) for number in range(1, 71)],
    }
    thing = {"id": 71, "image_id": 1, "category_id": 5, "bbox": [9, 9, 99, 99], "area": 9801, "iscrowd": 0}
    content["annotations"].append(thing | {"keypoints": [0] * 3 * len(request.param), "num_keypoints": 0})
    for name in ("annotations", "val"):
        (folder / name).mkdir()
    Image.fromarray(np.zeros((SIDE, SIDE, 3), np.uint8)).save(folder / "val" / "a.png")
    (folder / "annotations" / "person_keypoints_val.json").write_text(json.dumps(content))
    return CocoDetection(folder, "val", masks=False, keypoints=True)


@pytest.fixture(scope="module")
def truth(dataset) -> COCO:
    with redirect_stdout(io.StringIO()):
        return COCO(dataset.annotation_file)


def found(annotation: dict, points: np.ndarray, score: float) -> dict:
    fields = {name: annotation[name] for name in ("image_id", "category_id", "bbox")}
    return fields | {"keypoints": points.ravel().tolist(), "score": score}


def made_up(truth: COCO) -> list[dict]:
    """Objects with their keypoints moved about, found up to 8 times, crowds too, and some that are not there."""
    rng = np.random.default_rng(1)
    results = []
    for own in truth.anns.values():
        points = np.array(own["keypoints"], dtype=float).reshape(-1, 3)
        for _ in range(rng.choice([0, 1, 1, 2, 8])):
            moved = points + rng.normal(0, rng.choice([0.5, 3, 10]), points.shape)
            moved[points[:, 2] == 0, :2] += [own["bbox"][0], own["bbox"][1]]
            results.append(found(own, moved, float(rng.random())))
    for image in truth.imgs:
        for _ in range(3):
            nothing = {"image_id": image, "category_id": 1, "bbox": [0, 0, 9, 9]}
            results.append(found(nothing, rng.uniform(0, SIDE, points.shape), float(rng.random())))
    return results


def test_scores_are_pycocotools(dataset, truth):
    results = made_up(truth)
    assert max(sum(row["image_id"] == image for row in results) for image in truth.imgs) > 20
    with redirect_stdout(io.StringIO()):
        loaded = truth.loadRes([{name: row[name] for name in row if name != "bbox"} for row in results])
        evaluation = COCOeval(truth, loaded, "keypoints")
        if len(dataset.categories[0].keypoints) != 17:
            evaluation.params.kpt_oks_sigmas = np.full(4, 0.05)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    scores = coco_scores(dataset, results, ["box", "keypoint"])
    assert list(scores["keypoint"].values()) == pytest.approx(evaluation.stats.tolist(), abs=1e-6)
    assert 0.05 < scores["keypoint"]["ap"] < 0.95
    person = pytest.approx(evaluation.stats[0], abs=1e-6)
    assert scores["classes"]["keypoint"] == {"nobody": None, "person": person, "box": None}


def test_the_spreads_of_cocos_keypoints_are_pycocotools():
    assert [sigma(name) for name in COCOS] == pytest.approx(Params("keypoints").kpt_oks_sigmas.tolist())


def test_perfect_keypoints_score_one_and_none_zero(dataset, truth):
    perfect = []
    for own in truth.anns.values():
        points, (x, y, width, height) = np.array(own["keypoints"], dtype=float).reshape(-1, 3), own["bbox"]
        points[points[:, 2] == 0, :2] = [x + width / 2, y + height / 2]  # a detector gives all keypoints
        perfect += [] if own["iscrowd"] else [found(own, points, 0.9 if own["num_keypoints"] else 0.8)]
    for results, share in ((perfect, 1.0), ([], 0.0)):
        scores = coco_scores(dataset, results, ["box", "keypoint"])
        assert set(scores["keypoint"].values()) == {share}
        assert scores["box"]["ap"] == share
    rows = [column.header for column in scores_table(scores).columns]
    assert ["box" in row for row in rows] == [False, True, False]
    assert ["keypoint" in row for row in rows] == [False, False, True]


def test_results_without_keypoints_find_none(dataset, truth):
    boxes = [{"image_id": 1, "category_id": 1, "bbox": own["bbox"], "score": 0.5} for own in truth.anns.values()]
    assert coco_scores(dataset, boxes, ["keypoint"])["keypoint"]["ap"] == 0
