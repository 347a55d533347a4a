"""COCO's numbers against pycocotools, on real annotations."""

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from botvision.tasks.detection.coco import METRICS, coco_scores

COCO_MINI = Path(__file__).parents[3].parent / "shared" / "data" / "coco-mini"
CASES = Path(__file__).parents[3].parent / "shared" / "cases"
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own

KINDS = {"box": "bbox", "mask": "segm"}


@pytest.fixture(scope="module", params=["train", "val"])
def truth(request) -> COCO:
    file = COCO_MINI / "annotations" / f"instances_{request.param}2017.json"
    if not file.is_file():
        pytest.skip(f"needs COCO's annotations at {file}")
    oracle = COCO(file)
    oracle.file = file
    return oracle


def result(annotation: dict, mask: np.ndarray, score: float) -> dict:
    runs = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {
        "image_id": annotation["image_id"],
        "category_id": annotation["category_id"],
        "bbox": coco_mask.toBbox(runs).tolist(),
        "score": float(score),
        "segmentation": {"size": runs["size"], "counts": runs["counts"].decode()},
    }


@pytest.fixture(scope="module")
def made_up(truth) -> list[dict]:
    """Objects moved about, found twice, under wrong names, crowds too, and things that are not there."""
    rng = np.random.default_rng(0)
    categories = truth.getCatIds()
    results = []
    for annotation in truth.anns.values():
        mask = truth.annToMask(annotation)
        for _ in range(rng.choice([0, 1, 1, 1, 2, 4])):
            most = int(rng.choice([0, 2, 5, 20]))
            shift = rng.integers(-most, most + 1, size=2)
            found = dict(annotation)
            if rng.random() < 0.15:
                found["category_id"] = int(rng.choice(categories))
            results.append(result(found, np.roll(mask, shift, axis=(0, 1)), rng.random()))
    for image in truth.imgs.values():
        for _ in range(3):
            nothing = {"image_id": image["id"], "category_id": int(rng.choice(categories))}
            mask = np.zeros((image["height"], image["width"]))
            top, left = rng.integers(image["height"] - 40), rng.integers(image["width"] - 40)
            mask[top : top + rng.integers(3, 200), left : left + rng.integers(3, 200)] = 1
            results.append(result(nothing, mask, rng.random()))
    return [found for found in results if found["bbox"][2]]


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_pycocotools(truth, made_up, kind):
    assert any(annotation["iscrowd"] for annotation in truth.anns.values())
    # As detectron2 and others do, masks are scored without boxes: their size is then the mask's, not the box's.
    entries = [{name: found[name] for name in found if kind == "box" or name != "bbox"} for found in made_up]
    evaluation = COCOeval(truth, truth.loadRes(entries), KINDS[kind])
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()

    scores = coco_scores(truth.file, made_up, list(truth.imgs), list(KINDS))
    assert list(scores[kind]) == list(METRICS)
    assert list(scores[kind].values()) == pytest.approx(evaluation.stats.tolist(), abs=1e-6)
    assert 0.05 < scores[kind]["ap"] < 0.95
    precision = evaluation.eval["precision"][:, :, :, 0, 2]
    for index, category in enumerate(evaluation.params.catIds):
        own = precision[:, :, index]
        expected = own[own > -1].mean() if (own > -1).any() else -1
        assert scores["classes"][kind][truth.cats[category]["name"]] == pytest.approx(expected, abs=1e-6)


def test_scoring_leaves_the_results_as_they_are(truth, made_up):
    before = json.dumps(made_up)
    coco_scores(truth.file, made_up, list(truth.imgs), list(KINDS))
    assert json.dumps(made_up) == before


def test_only_the_images_asked_for_count(truth, made_up):
    first = list(truth.imgs)[:3]
    alone = [found for found in made_up if found["image_id"] in first]
    everything = coco_scores(truth.file, made_up, first, list(KINDS))
    assert everything == coco_scores(truth.file, alone, first, list(KINDS))
    assert everything["box"] != coco_scores(truth.file, made_up, list(truth.imgs), list(KINDS))["box"]


def test_perfect_detections_score_one(truth):
    perfect = [result(a, truth.annToMask(a), 1) for a in truth.anns.values() if not a["iscrowd"]]
    for entry, annotation in zip(perfect, (a for a in truth.anns.values() if not a["iscrowd"]), strict=True):
        entry["bbox"] = annotation["bbox"]
    scores = coco_scores(truth.file, perfect, list(truth.imgs), list(KINDS))
    for kind in KINDS:
        assert {scores[kind][name] for name in ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")} == {1.0}
        assert set(scores["classes"][kind].values()) <= {1.0, -1.0}


def test_no_detections_score_zero(truth):
    scores = coco_scores(truth.file, [], list(truth.imgs), list(KINDS))
    for kind in KINDS:
        assert set(scores[kind].values()) == {0.0}
        assert set(scores["classes"][kind].values()) <= {0.0, -1.0}


def test_annotations_without_area_and_iscrowd_can_be_scored(shapes, tmp_path):
    content = json.loads((shapes / "annotations" / "instances_val2017.json").read_text())
    results = []
    for annotation in content["annotations"]:
        del annotation["area"], annotation["iscrowd"]
        results.append({**annotation, "score": 1.0})
        del results[-1]["segmentation"]
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(content))
    scores = coco_scores(file, results, [image["id"] for image in content["images"]], kinds=["box"])
    assert scores["box"]["ap"] == pytest.approx(1.0)


def test_annotations_that_are_left_out_are_neither_found_nor_missed(shapes):
    file = shapes / "annotations" / "instances_val2017.json"
    content = json.loads(file.read_text())
    first, *others = content["annotations"]
    results = [{name: a[name] for name in ("image_id", "category_id", "bbox")} | {"score": 1.0} for a in others]
    images = [image["id"] for image in content["images"]]
    assert coco_scores(file, results, images, kinds=["box"])["box"]["ar100"] < 1
    assert coco_scores(file, results, images, kinds=["box"], leave_out={first["id"]})["box"]["ar100"] == 1


IDS = {
    "from 0": range,
    "over 64 bits": lambda count: [2**70 + number for number in range(count)],
    "negative": lambda count: [-number for number in range(count)],
    "texts": lambda count: [f"{number:032x}" for number in range(count)],
    "all alike": lambda count: [5] * count,
}


@pytest.mark.parametrize("ids", IDS.values(), ids=IDS)
def test_perfect_detections_score_one_whatever_the_ids_of_annotations(shapes, tmp_path, ids):
    content = json.loads((shapes / "annotations" / "instances_val2017.json").read_text())
    annotations = content["annotations"]
    for annotation, number in zip(annotations, ids(len(annotations)), strict=True):
        annotation["id"] = number
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(content))
    assert perfect_score(file) == {"box": pytest.approx(1.0), "mask": pytest.approx(1.0)}


@pytest.mark.parametrize("case", ["ann-id-0", "ann-id-uuid"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_perfect_detections_score_one_on_the_ids_of_other_tools(case, split):
    file = CASES / case / "data" / "annotations" / f"instances_{split}.json"
    if not file.is_file():
        pytest.skip(f"needs {file}")
    assert perfect_score(file) == {"box": pytest.approx(1.0), "mask": pytest.approx(1.0)}


def perfect_score(file: Path) -> dict[str, float]:
    """AP of the truth itself."""
    truth = COCO(file)
    results = [result(a, truth.annToMask(a), 0.9) | {"bbox": a["bbox"]} for a in truth.dataset["annotations"]]
    scores = coco_scores(file, results, [image["id"] for image in truth.dataset["images"]], list(KINDS))
    return {kind: scores[kind]["ap"] for kind in KINDS}
