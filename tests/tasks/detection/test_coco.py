"""COCO's numbers against pycocotools, on real annotations and generated ones."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from botvision.data import CocoDetection
from botvision.tasks.detection.coco import class_names, coco_scores, metrics, scores_table

COCO_MINI = Path(__file__).parents[3].parent / "shared" / "data" / "coco-mini"
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own

KINDS = {"box": "bbox", "mask": "segm"}


@pytest.fixture(scope="module", params=["train", "val", "generated"])
def folder_and_split(request, shapes) -> tuple[Path, str]:
    if request.param == "generated":
        return shapes, "train"
    if not COCO_MINI.is_dir():
        pytest.skip(f"needs COCO's annotations at {COCO_MINI}")
    return COCO_MINI, request.param


@pytest.fixture(scope="module")
def dataset(folder_and_split) -> CocoDetection:
    return CocoDetection(*folder_and_split)


@pytest.fixture(scope="module")
def truth(dataset) -> COCO:
    """The file as pycocotools reads it; sizes are those of masks, as the file says them for a half of the objects."""
    oracle = COCO(dataset.annotation_file)
    for annotation in oracle.anns.values():
        annotation["area"] = float(coco_mask.area(oracle.annToRLE(annotation)))
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
def test_scores_are_pycocotools(dataset, truth, made_up, kind):
    # As detectron2 and others do, masks are scored without boxes: their size is then the mask's, not the box's.
    entries = [{name: found[name] for name in found if kind == "box" or name != "bbox"} for found in made_up]
    evaluation = COCOeval(truth, truth.loadRes(entries), KINDS[kind])
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()

    scores = coco_scores(dataset, made_up, list(KINDS))
    assert list(scores[kind]) == list(metrics(100))
    assert [-1 if value is None else value for value in scores[kind].values()] == pytest.approx(
        evaluation.stats.tolist(), abs=1e-6
    )
    assert 0.05 < scores[kind]["ap"] < 0.95
    precision = evaluation.eval["precision"][:, :, :, 0, 2]
    for index, category in enumerate(evaluation.params.catIds):
        own = precision[:, :, index]
        expected = pytest.approx(own[own > -1].mean(), abs=1e-6) if (own > -1).any() else None
        assert scores["classes"][kind][truth.cats[category]["name"]] == expected


def test_scoring_leaves_the_results_as_they_are(dataset, made_up):
    before = json.dumps(made_up)
    coco_scores(dataset, made_up, list(KINDS))
    assert json.dumps(made_up) == before


def test_perfect_detections_score_one_and_none_zero(dataset, truth):
    objects = [annotation for annotation in truth.anns.values() if not annotation["iscrowd"]]
    perfect = [result(a, truth.annToMask(a), 0.9) | {"bbox": a["bbox"]} for a in objects]
    for results, share in ((perfect, 1.0), ([], 0.0)):
        scores = coco_scores(dataset, results, list(KINDS))
        for kind in KINDS:
            assert {scores[kind][name] for name in ("ap", "ap50", "ap75", "ap_small", "ap_large")} <= {share, None}
            assert scores[kind]["ap"] == scores[kind]["ar100"] == share
            assert set(scores["classes"][kind].values()) <= {share, None}


# --- small data sets ---


def square(x: int, y: int, side: int, **fields) -> dict:
    """An annotation of a square; fields that are None are left out."""
    corners = [x, y, x + side, y, x + side, y + side, x, y + side]
    annotation = {"image_id": 1, "category_id": 1, "bbox": [x, y, side, side], "segmentation": [corners], **fields}
    return {name: value for name, value in annotation.items() if value is not None}


def detection(annotation: dict, score: float = 0.9) -> dict:
    """What a perfect detector finds."""
    x, y, width, height = annotation["bbox"]
    mask = np.zeros((200, 200))
    mask[y : y + height, x : x + width] = 1
    return result(annotation, mask, score)


def test_an_object_without_a_mask_is_neither_found_nor_missed_by_masks(write_squares):
    known, unknown, not_found = square(0, 0, 40), square(50, 50, 40, segmentation=[]), square(100, 100, 40)
    dataset = write_squares([known, unknown, not_found])
    assert dataset.changed == {"box without mask": 1}
    part = detection(square(55, 55, 20), score=1.0)  # of the unknown one
    scores = coco_scores(dataset, [detection(known), part, detection(square(50, 50, 40))], list(KINDS))
    assert scores["mask"]["ar100"] == 0.5
    assert scores["mask"]["ap"] == pytest.approx(51 / 101)
    assert scores["box"]["ar100"] == pytest.approx(2 / 3)
    everything = [detection(known), detection(square(50, 50, 40)), detection(not_found)]
    boxes_alone = [{name: row[name] for name in row if name != "segmentation"} for row in everything[1:2]]
    scores = coco_scores(dataset, [everything[0], *boxes_alone, everything[2]], list(KINDS))
    assert scores["mask"]["ap"] == scores["box"]["ap"] == 1.0


def test_an_empty_mask_is_wrong_but_where_the_mask_is_not_known(write_squares):
    known, unknown = square(0, 0, 40), square(50, 50, 40, segmentation=[])
    dataset = write_squares([known, unknown])
    empty = coco_mask.encode(np.zeros((200, 200), np.uint8, order="F"))
    for box, share in (([52, 50, 40, 40], 1.0), ([100, 100, 40, 40], 0.5)):
        nothing = {"image_id": 1, "category_id": 1, "bbox": box, "score": 1.0, "segmentation": empty}
        assert coco_scores(dataset, [detection(known), nothing], ["mask"])["mask"]["ap"] == pytest.approx(share)


def test_a_crowd_hides_what_is_found_in_it(write_squares):
    dataset = write_squares([square(0, 0, 40), square(100, 100, 60, iscrowd="1")])
    found = [
        detection(square(0, 0, 40), 0.5),
        detection(square(110, 110, 20), 0.9),
        detection(square(130, 130, 20), 0.9),
    ]
    scores = coco_scores(dataset, found, list(KINDS))
    assert scores["box"]["ap"] == scores["mask"]["ap"] == 1.0
    assert coco_scores(dataset, [*found, detection(square(60, 60, 20), 0.9)], list(KINDS))["mask"]["ap"] < 1


@pytest.mark.parametrize("area", ["missing", None, 0, float("nan"), -1, 1e9, "large"])
def test_sizes_are_those_of_masks_whatever_the_file_says(write_squares, area):
    thin = {"segmentation": [[10, 10, 13, 10, 60, 60, 57, 60]], "bbox": [10, 10, 50, 50]}
    annotation = square(0, 0, 1) | thin | ({} if area == "missing" else {"area": area})
    for masks in (True, False):
        scores = coco_scores(write_squares([annotation], masks=masks), [detection(annotation)], ["box"])
        assert scores["box"]["ap_small"] == 1.0
        assert scores["box"]["ap_medium"] is None


def test_without_masks_sizes_are_those_of_boxes(write_squares):
    dataset = write_squares([square(0, 0, 40, segmentation=None)], masks=False)
    scores = coco_scores(dataset, [detection(square(0, 0, 40))], ["box"])
    assert (scores["box"]["ap_small"], scores["box"]["ap_medium"]) == (None, 1.0)


@pytest.mark.parametrize(("most", "found"), [(300, 1.0), (100, 100 / 150), (10, 10 / 150), (7, 7 / 150), (1, 1 / 150)])
def test_as_many_detections_count_as_the_detector_gives(write_squares, most, found):
    objects = [square(x, y, 10) for x in range(0, 180, 12) for y in range(0, 120, 12)]
    assert len(objects) == 150
    scores = coco_scores(write_squares(objects), [detection(entry) for entry in objects], list(KINDS), detections=most)
    for kind in KINDS:
        assert scores[kind][f"ar{most}"] == pytest.approx(found)
        assert scores[kind]["ap"] == pytest.approx(round(found * 100 + 0.5) / 101, abs=0.01)
    assert f"{most} detections" in scores_table(scores).caption


def test_classes_of_one_name_are_told_apart(write_squares):
    dataset = write_squares([square(0, 0, 40), square(50, 50, 40, category_id=2)], names=["thing", "thing", "other"])
    scores = coco_scores(dataset, [detection(square(0, 0, 40))], ["box"])
    assert scores["classes"]["box"] == {"thing (id 1)": 1.0, "thing (id 2)": 0.0, "other": None}
    assert class_names(dataset.categories) == list(scores["classes"]["box"])


def test_without_an_object_there_is_no_score(write_squares):
    scores = coco_scores(write_squares([]), [detection(square(0, 0, 40))], list(KINDS))
    assert {value for kind in KINDS for value in scores[kind].values()} == {None}
    column = scores_table(scores).columns[1]
    assert set(column.cells) == {"-"}


@pytest.mark.parametrize("value", [3, "c9", 2**80])
def test_results_name_images_and_classes_by_the_ids_of_the_file(write_squares, value):
    dataset = write_squares([square(0, 0, 40, image_id=value, category_id=value)], ids=value)
    found = detection(square(0, 0, 40, image_id=value, category_id=value))
    assert coco_scores(dataset, [found], list(KINDS))["mask"]["ap"] == 1.0


def test_equal_scores_count_in_the_order_of_image_ids(tmp_path):
    """Not in the order of the file: of the two detections that of image 1 is right, and pycocotools has it first."""
    content = {
        "images": [{"id": number, "file_name": f"{number}.png", "width": 100, "height": 100} for number in (2, 1)],
        "categories": [{"id": 1, "name": "square"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 50, 50], "area": 2500}],
    }
    content["annotations"][0]["iscrowd"] = 0
    for image in content["images"]:
        (tmp_path / "val").mkdir(exist_ok=True)
        Image.new("RGB", (100, 100)).save(tmp_path / "val" / image["file_name"])
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_val.json").write_text(json.dumps(content))
    results = [
        {"image_id": number, "category_id": 1, "bbox": [10.0, 10.0, 50.0, 50.0], "score": 0.5} for number in (1, 2)
    ]
    oracle = COCO(tmp_path / "annotations" / "instances_val.json")
    evaluation = COCOeval(oracle, oracle.loadRes([dict(one) for one in results]), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert (
        coco_scores(CocoDetection(tmp_path, "val"), results, ["box"])["box"]["ap"]
        == pytest.approx(evaluation.stats[0])
        == 1
    )
