"""The page of a classifier's evaluation, in a real browser, and what it is made from."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from botvision.tasks.classification.analysis import analyse, calibration
from botvision.tasks.classification.confusion import confusion_matrix
from botvision.tasks.classification.evaluate import classification_scores, write_results
from botvision.training.trainable import Evaluation

CLASSES = ["<b>cat</b>", "dog", "dog"]
ROWS = [(0, 0, 0.9), (0, 1, 0.8), (0, 0, 0.35), (1, 1, 0.7), (2, 1, 0.95), (2, 2, 0.35)]
"""Label, predicted class, its probability."""


@pytest.fixture
def rows(tmp_path) -> list[dict]:
    """Six answers, four of them right; the fifth image is a file, the others are in a shard."""
    Image.fromarray(np.full((30, 40, 3), 200, np.uint8)).save(tmp_path / "<i>4.png")
    return [
        {
            "path": str(tmp_path / "<i>4.png") if number == 4 else f"shard.tar/{number}",
            "label": label,
            "predicted": predicted,
            "probability": probability,
            "loss": -np.log(probability),
            "top1": label == predicted,
            "top5": True,
        }
        for number, (label, predicted, probability) in enumerate(ROWS)
    ]


@pytest.fixture
def folder(rows, tmp_path):
    evaluation = Evaluation(classification_scores(rows, 0) | {"most_confused": []}, {}, 0.5, "", rows)
    write_results(tmp_path / "eval", evaluation, CLASSES, split="val")
    return tmp_path / "eval"


def test_the_page_opens_in_a_browser_with_its_numbers_and_without_network(folder, open_page):
    page = open_page(folder / "report.html")
    assert (page.console, page.requests) == ([], [])
    for words in (
        "top-1 (%) 66.67",
        "top-5 (%) 100.00",
        "split val, 3 classes, 6 images",
        "dog (class 1) 1 100.0",
        "<b>cat</b> 3 66.7",
        "dog (class 2) 2 50.0",
        "<i>4.png: dog (class 1) (95.0 %), labelled dog (class 2)",
        "1: dog (class 1) (80.0 %), labelled <b>cat</b>",
    ):
        assert words in page.words
    assert len(re.findall('<img src="data:image/jpeg;base64,[^"]{300}', page.html)) == page.html.count("<img") == 1


def test_the_analysis_says_what_was_taken_for_what(rows):
    analysis = analyse(rows, confusion_matrix(rows, 3), CLASSES, 15)
    assert analysis["confusion"] == [(0, 0, 2), (0, 1, 1), (1, 1, 1), (2, 1, 1), (2, 2, 1)]
    assert [one["file"] for one in analysis["mistakes"]] == ["<i>4.png", "1"]


def test_calibration_has_the_means_of_each_bin(rows):
    assert calibration(rows, 2) == [(0.35, 1.0, 2), (0.8375, 0.5, 4)]
    gaps = sum(count * abs(right - confidence) for confidence, right, count in calibration(rows, 15)) / len(rows)
    assert gaps == pytest.approx(classification_scores(rows, 0)["ece"])


def test_two_classifiers_stand_beside_each_other_and_not_beside_a_detector(
    run, folder, finished_run, tmp_path, refusal
):
    metrics = json.loads((folder / "metrics.json").read_text())
    other = tmp_path / "other"
    other.mkdir()
    (other / "analysis.json").write_text((folder / "analysis.json").read_text())
    (other / "metrics.json").write_text(json.dumps(metrics | {"top1": 0.25}))
    out = tmp_path / "both.html"
    assert run("report", folder, other, "--out", out)[0] == 0
    cells = re.findall(r"<td>([\d.]+)</td>", out.read_text())
    assert cells[:2] == ["66.67", "25.00"]
    line = refusal("report", folder, finished_run, "--out", tmp_path / "mixed.html")
    assert "classification" in line
    assert "detection" in line
    assert not (tmp_path / "mixed.html").exists()
