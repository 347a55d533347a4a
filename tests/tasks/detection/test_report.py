"""The page of an evaluation, in a real browser, and the files that it is made from."""

import json
import re
from pathlib import Path

import pytest

from botvision.data import CocoDetection
from botvision.tasks.detection.analysis import analyse
from botvision.tasks.detection.coco import summaries
from botvision.tasks.detection.evaluate import write_results
from botvision.tasks.detection.stored_results import StoredResults
from botvision.tasks.detection.truth import CocoTruth
from botvision.training.trainable import Evaluation

CLASS = "<script>document.title='taken'</script><img src=http://class.test/x.png>"
FILE = "'\"><img src=x onerror=alert(1)>&amp;.png"


def polygon(x: float, y: float, side: float) -> list[list[float]]:
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


@pytest.fixture
def dataset(write_squares, tmp_path) -> CocoDetection:
    """Two classes, one image, names that are HTML."""
    places = [(1, 10, 10), (1, 60, 10), (2, 120, 120)]
    write_squares(
        [
            {"image_id": 1, "category_id": label, "bbox": [x, y, 40, 40], "segmentation": polygon(x, y, 40)}
            for label, x, y in places
        ],
        names=[CLASS, "b"],
    )
    (tmp_path / "train" / "a.png").rename(tmp_path / "train" / FILE)
    file = tmp_path / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    content["images"][0]["file_name"] = FILE
    file.write_text(json.dumps(content))
    return CocoDetection(tmp_path, "train")


@pytest.fixture
def folder(dataset, tmp_path) -> Path:
    """An evaluation in which one object of the first class was found, and nothing of the second."""
    results = StoredResults([1])
    row = {"image_id": 1, "category_id": 1, "bbox": [10, 10, 40, 40], "score": 0.9}
    size = {"size": [200, 200], "counts": [200 * 10 + 10, *([40, 160] * 39), 40, 200 * 150 + 150]}
    results.append(1, [{**row, "segmentation": size}])
    truth = CocoTruth(dataset)
    evaluations = {kind: truth.match(results, kind) for kind in ("box", "mask")}
    scores = summaries(evaluations, dataset.categories)
    analysis = analyse(truth, evaluations, results, dataset)
    evaluation = Evaluation(scores, {}, scores["mask"]["ap"], "", results, analysis)
    write_results(tmp_path / "<i>eval", dataset, evaluation, data="<u>data</u>", split="train")
    return tmp_path / "<i>eval"


def test_the_page_opens_in_a_browser_with_its_numbers_and_without_network(folder, open_page):
    page = open_page(folder / "report.html")
    assert (page.console, page.requests) == ([], [])
    # Of the two objects of the first class one is found, of the second none: AP 51/101 and 0.
    scores = json.loads((folder / "metrics.json").read_text())
    assert scores["mask"]["ap"] == pytest.approx(51 / 202)
    for words in ("box AP (%) 25.2", "mask AP50 (%) 25.2", "AR100 25.0 25.0", f"{CLASS} 2 50.5 50.5", "b 1 0.0 0.0"):
        assert words in page.words
    assert "missed an object that nothing of the above is about 2" in page.words
    assert "1 right, 0 wrong, 2 missed" in page.words
    assert page.html.count("<polyline") == 6
    assert len(re.findall('<img src="data:image/jpeg;base64,[^"]{500}', page.html)) == 1


def test_names_are_shown_as_they_are_and_do_nothing(folder, open_page):
    page = open_page(folder / "report.html")
    assert (page.console, page.requests) == ([], [])
    assert "<title>&lt;i&gt;eval</title>" in page.html
    for name in (CLASS, FILE, "<u>data</u>"):
        assert name in page.words
    assert page.html.count("<script") == 0
    assert page.html.count("<img") == 1


def test_a_page_that_does_ask_for_something_would_be_noticed(tmp_path, open_page):
    bad = tmp_path / "bad.html"
    bad.write_text("<script>console.error('ill')</script><img src=http://elsewhere.test/x.png>")
    page = open_page(bad)
    assert set(page.requests) == {"http://elsewhere.test/x.png"}
    assert "ill" in page.console[0]


def test_the_files_say_the_same_as_the_page_and_hold_all(folder):
    analysis = json.loads((folder / "analysis.json").read_text())
    assert analysis["task"] == "detection"
    assert (analysis["classes"], analysis["objects"]) == ([CLASS, "b"], [2, 1])
    assert [one["file"] for one in analysis["worst"]] == [FILE]
    assert len(json.loads((folder / "detections.json").read_text())) == 1
    assert {path.name for path in folder.iterdir()} == {
        "analysis.json",
        "detections.json",
        "metrics.json",
        "report.html",
    }
