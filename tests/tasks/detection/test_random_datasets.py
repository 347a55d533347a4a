"""Scores on data sets drawn at random: perfect detections score 1, and all scores are pycocotools'."""

import contextlib
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from botvision.data import CocoDetection
from botvision.tasks.detection.coco import coco_scores, metrics

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own

SIZES = ((64, 48), (40, 90), (150, 140))
KINDS = {"box": "bbox", "mask": "segm"}
BINS = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}

ids = st.one_of(
    st.lists(st.integers(-5, 300), unique=True, min_size=60, max_size=60),
    st.lists(st.integers(2**70, 2**71), unique=True, min_size=60, max_size=60),
    st.lists(st.uuids().map(str), unique=True, min_size=60, max_size=60),
    st.just(list(range(60))),
)


@st.composite
def segmentations(draw: st.DrawFn, height: int, width: int) -> tuple[Any, np.ndarray]:
    """A segmentation in one of COCO's forms, perhaps of no pixel, and its mask."""
    form = draw(st.sampled_from(["polygons", "list", "text", "thin", "none"]))
    if form == "none":
        return draw(st.sampled_from([None, []])), np.zeros((height, width), np.uint8)
    corner = st.tuples(st.integers(-10, 4 * width + 10), st.integers(-10, 4 * height + 10))
    corners = draw(st.lists(corner, min_size=3, max_size=3 if form == "thin" else 8))
    if form == "thin":
        corners[2] = corners[1]
    polygons = [[side / 4 for point in corners for side in point]]
    if draw(st.booleans()):
        polygons.append([0.0, 0.0, 5.0, 0.0, 5.0, 6.0])
    runs = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    mask = coco_mask.decode(runs)
    if form == "text":
        return {"size": [height, width], "counts": runs["counts"].decode()}, mask
    if form == "list":
        changes = np.flatnonzero(np.diff(mask.ravel(order="F"), prepend=0, append=2))
        return {"size": [height, width], "counts": np.diff(changes, prepend=0).tolist()}, mask
    return polygons, mask


@st.composite
def objects(draw: st.DrawFn, height: int, width: int) -> dict[str, Any]:
    """An annotation as tools write it, and under "clean" what it means."""
    segmentation, mask = draw(segmentations(height, width))
    crowd = draw(st.sampled_from([None, 0, "0", False, 0, 0, 1, "1", True]))
    left, top = draw(st.integers(0, width - 2)), draw(st.integers(0, height - 2))
    box = [left, top, draw(st.integers(1, width - left)), draw(st.integers(1, height - top))]
    annotation = {"segmentation": segmentation, "iscrowd": crowd, "bbox": box}
    if mask.any():
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
        box = [int(side) for side in box]
        annotation["bbox"] = draw(st.sampled_from([box, box, None]))
    if draw(st.booleans()):
        annotation["area"] = draw(st.sampled_from([None, 0, math.nan, 7.5, -3, "x"]))
    for field in ("iscrowd", "bbox", "segmentation"):
        if annotation[field] is None and draw(st.booleans()):
            del annotation[field]
    annotation["clean"] = {"bbox": box, "mask": mask, "crowd": int(crowd in (1, "1"))}
    return annotation


@st.composite
def datasets(draw: st.DrawFn) -> dict[str, Any]:
    """The content of an annotation file, its lists in any order."""
    of_images, of_categories, of_annotations = draw(ids), draw(ids), draw(ids)
    categories = [{"id": of_categories[n], "name": draw(st.sampled_from("ab"))} for n in range(draw(st.integers(1, 4)))]
    images, annotations = [], []
    for number in range(draw(st.integers(1, 3))):
        height, width = draw(st.sampled_from(SIZES))
        images.append({"id": of_images[number], "file_name": f"{height}.png", "height": height, "width": width})
        for entry in draw(st.lists(objects(height, width), max_size=5)):
            category = draw(st.sampled_from(categories))["id"]
            fields = {"id": of_annotations[len(annotations)], "image_id": of_images[number], "category_id": category}
            annotations.append({**fields, **entry})
    return {
        "images": draw(st.permutations(images)),
        "categories": draw(st.permutations(categories)),
        "annotations": draw(st.permutations(annotations)),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("random")
    for name in ("annotations", "train"):
        (folder / name).mkdir()
    for height, width in SIZES:
        Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(folder / "train" / f"{height}.png")
    return folder


def opened(folder: Path, content: dict[str, Any], masks: bool) -> CocoDetection:
    annotations = [{name: a[name] for name in a if name != "clean"} for a in content["annotations"]]
    file = folder / "annotations" / "instances_train.json"
    file.write_text(json.dumps({**content, "annotations": annotations}))
    return CocoDetection(folder, "train", masks=masks)


def cleaned(content: dict[str, Any], kind: str) -> COCO:
    """The file as pycocotools needs it. Where no mask is known, masks are not judged: the box is a crowd region."""
    image_numbers = {image["id"]: n for n, image in enumerate(content["images"], start=1)}
    numbers = {category["id"]: n for n, category in enumerate(content["categories"], start=1)}
    truth = COCO()
    truth.dataset = {
        "images": [{**image, "id": image_numbers[image["id"]]} for image in content["images"]],
        "categories": [{"id": number} for number in numbers.values()],
        "annotations": [],
    }
    for number, annotation in enumerate(content["annotations"], start=1):
        clean = annotation["clean"]
        x, y, width, height = clean["bbox"]
        known = bool(clean["mask"].any())
        mask = np.asfortranarray(clean["mask"].copy())
        if not known:
            mask[y : y + height, x : x + width] = 1
        truth.dataset["annotations"].append(
            {
                "id": number,
                "image_id": image_numbers[annotation["image_id"]],
                "category_id": numbers[annotation["category_id"]],
                "bbox": clean["bbox"],
                "area": int(mask.sum()),
                "iscrowd": int(clean["crowd"] or (kind == "mask" and not known)),
                "segmentation": coco_mask.encode(mask),
            }
        )
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
    return truth


def detection(annotation: dict[str, Any], box: list, mask: np.ndarray, score: float) -> dict[str, Any]:
    result = {name: annotation[name] for name in ("image_id", "category_id")} | {"bbox": box, "score": score}
    if mask.any():
        runs = coco_mask.encode(np.asfortranarray(mask))
        result["segmentation"] = {"size": runs["size"], "counts": runs["counts"].decode()}
    return result


RANDOM = settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))


@RANDOM
@given(content=datasets(), masks=st.booleans())
def test_perfect_detections_score_one_in_every_size_that_is_there(folder, content, masks):
    dataset = opened(folder, content, masks)
    found = [a for a in content["annotations"] if not a["clean"]["crowd"]]
    perfect = [detection(a, a["clean"]["bbox"], a["clean"]["mask"], 0.9) for a in found]
    scores = coco_scores(dataset, perfect, ["box", "mask"] if masks else ["box"])
    for kind in KINDS if masks else ["box"]:
        areas = [
            a["clean"]["mask"].sum() or (math.prod(a["clean"]["bbox"][2:]) if kind == "box" else -1) for a in found
        ]
        areas = [area for area in areas if area >= 0]
        assert scores[kind]["ap"] == scores[kind]["ar100"] == (1.0 if areas else None)
        for name, (least, most) in BINS.items():
            expected = 1.0 if any(least <= area <= most for area in areas) else None
            assert (scores[kind][f"ap_{name}"], scores[kind][f"ar_{name}"]) == (expected, expected)
        assert len(scores["classes"][kind]) == len(content["categories"])
    assert dataset.objects == len(found)
    if masks:
        assert dataset.objects_with_mask == sum(bool(a["clean"]["mask"].any()) for a in found)
    assert dataset.dropped == ({"crowd": crowds} if (crowds := len(content["annotations"]) - len(found)) else {})


@RANDOM
@given(content=datasets(), seed=st.integers(0, 2**32 - 1))
def test_scores_are_pycocotools_on_the_cleaned_file(folder, content, seed):
    rng = np.random.default_rng(seed)
    results = []
    for annotation in content["annotations"]:
        clean = annotation["clean"]
        for _ in range(rng.integers(0, 4)):
            shift = rng.integers(-4, 5, size=2)
            box = [int(clean["bbox"][0] + shift[1]), int(clean["bbox"][1] + shift[0]), *clean["bbox"][2:]]
            mask = np.roll(clean["mask"], shift, axis=(0, 1))
            other = dict(annotation)
            if rng.random() < 0.2:
                other["category_id"] = content["categories"][rng.integers(len(content["categories"]))]["id"]
            results.append(detection(other, box, mask, float(rng.random())))
    dataset = opened(folder, content, masks=True)
    scores = coco_scores(dataset, results, list(KINDS))
    image_numbers = {image["id"]: n for n, image in enumerate(content["images"], start=1)}
    numbers = {category["id"]: n for n, category in enumerate(content["categories"], start=1)}
    for kind, name in KINDS.items():
        needed, left_out = ("segmentation", "bbox") if kind == "mask" else ("bbox", "segmentation")
        entries = [
            {key: value for key, value in row.items() if key != left_out}
            | {"image_id": image_numbers[row["image_id"]], "category_id": numbers[row["category_id"]]}
            for row in results
            if needed in row
        ]
        if not entries:
            continue
        with contextlib.redirect_stdout(io.StringIO()):
            truth = cleaned(content, kind)
            evaluation = COCOeval(truth, truth.loadRes(entries), name)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        ours = [-1 if scores[kind][metric] is None else scores[kind][metric] for metric in metrics(100)]
        assert ours == pytest.approx(evaluation.stats.tolist(), abs=1e-6)
