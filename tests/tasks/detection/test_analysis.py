"""Errors by kind, confusions, curves and the worst images, against a case worked out by hand."""

import numpy as np
import pytest

from botvision.data import CocoDetection
from botvision.tasks.detection.analysis import analyse, confusion, image_pairs
from botvision.tasks.detection.truth import CocoTruth

A, B = 1, 2


def box(x: float, y: float, side: float) -> list[float]:
    return [x, y, side, side]


def polygon(x: float, y: float, side: float) -> list[list[float]]:
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


TRUTH = {
    "a1": (A, (0, 0, 40)),
    "a2": (A, (100, 0, 40)),
    "a3": (A, (150, 150, 30)),
    "b1": (B, (0, 100, 40)),
    "b2": (B, (100, 100, 40)),
    "b3": (B, (160, 60, 20)),
}
FOUND = [
    (0.95, A, (0, 0, 40)),  # a1, right
    (0.90, A, (2, 2, 40)),  # a1 again: duplicate, IoU 0.82
    (0.85, A, (0, 100, 40)),  # b1 as a: classification
    (0.80, A, (120, 0, 40)),  # a2, IoU 1/3: localisation
    (0.75, B, (50, 50, 20)),  # nothing there: background
    (0.70, B, (80, 0, 40)),  # at a2, IoU 1/3, of the wrong class: both
    (0.60, A, (150, 150, 30)),  # a3, right
    (0.50, B, (100, 100, 40)),  # b2, right
]  # b3 is missed


@pytest.fixture
def dataset(write_squares) -> CocoDetection:
    annotations = [
        {"image_id": 1, "category_id": label, "bbox": box(*place), "segmentation": polygon(*place)}
        for label, place in TRUTH.values()
    ]
    return write_squares(annotations, names=["a", "b"])


@pytest.fixture
def results() -> list[dict]:
    return [{"image_id": 1, "category_id": label, "bbox": box(*at), "score": score} for score, label, at in FOUND]


@pytest.fixture
def analysis(dataset, results) -> dict:
    truth = CocoTruth(dataset)
    return analyse(truth, {"box": truth.match(results, "box")}, results, dataset)


def test_errors_by_kind_are_those_worked_out_by_hand(analysis):
    """AP over 101 recalls: 34 of them are up to 1/3, 67 up to 2/3.

    Class a, three objects: right, wrong, wrong, wrong, right; precision 1 up to recall 1/3, 2/5 up to 2/3.
    Class b, three objects: wrong, wrong, right; precision 1/3 up to recall 1/3.
    """
    a, b = 34 + 33 * 2 / 5, 34 / 3
    assert analysis["errors"]["ap50"] == pytest.approx((a + b) / 202)
    assert analysis["errors"]["counts"] == dict.fromkeys(analysis["errors"]["gains"], 1)
    mended = {
        "classification": (34 + 33 * 2 / 4) - a + (34 + 33 * 2 / 4) - b,  # gone from a, right for b before the rest
        "localisation": (34 + 67 * 3 / 5) - a,  # the fourth of a is right: 3 of 5 at recall 1
        "both": 34 / 2 - b,
        "duplicate": (34 + 33 * 2 / 4) - a,
        "background": 34 / 2 - b,
        "missed": 51 / 3 - b,  # two objects are left of b
    }
    assert analysis["errors"]["gains"] == pytest.approx({kind: gain / 202 for kind, gain in mended.items()})


def test_confused_classes_are_those_worked_out_by_hand(dataset, results, analysis):
    truth = CocoTruth(dataset)
    matrix = np.zeros((3, 3), int)
    for row, column, count in confusion(image_pairs(truth, results, "box", 0.05), 2):
        matrix[row, column] = count
    # rows: a, b, nothing there; columns: found as a, as b, not at all
    assert matrix.tolist() == [[2, 0, 1], [1, 1, 1], [2, 2, 0]]
    assert (analysis["classes"], analysis["objects"]) == (["a", "b"], [3, 3])


def test_the_curves_are_the_precision_at_each_recall(analysis):
    curve = analysis["curves"]["box"]["IoU 0.50"]
    a = [1.0] * 34 + [0.4] * 33 + [0.0] * 34
    b = [1 / 3] * 34 + [0.0] * 67
    assert curve == pytest.approx(((np.array(a) + b) / 2).tolist(), abs=1e-4)


def test_the_working_point_is_where_f1_is_highest(analysis):
    """Of a: 0.5 at the first, 0.5 at the last (2 of 5, 2 of 3). Of b: 1/3 at 0.50, nothing above."""
    assert analysis["threshold"] == 0.5


def test_the_worst_image_is_counted(analysis):
    assert analysis["worst"] == [{"image": 0, "right": 3, "wrong": 5, "missed": 3}]


def test_a_data_set_without_objects_has_no_analysis_of_errors(write_squares):
    dataset = write_squares([])
    truth = CocoTruth(dataset)
    analysis = analyse(truth, {"box": truth.match([], "box")}, [], dataset)
    assert (analysis["kind"], analysis["curves"], analysis["objects"]) == (None, {"box": {}}, [0])
    assert "errors" not in analysis


def test_perfect_detections_leave_nothing_to_mend(dataset):
    perfect = [
        {"image_id": 1, "category_id": label, "bbox": box(*place), "score": 0.9} for label, place in TRUTH.values()
    ]
    truth = CocoTruth(dataset)
    analysis = analyse(truth, {"box": truth.match(perfect, "box")}, perfect, dataset)
    assert set(analysis["errors"]["counts"].values()) == {0}
    assert analysis["confusion"] == [(0, 0, 3), (1, 1, 3)]
    assert analysis["worst"] == []


def test_crowds_are_neither_missed_nor_wrong_to_find(write_squares):
    crowd = {"image_id": 1, "category_id": A, "bbox": box(0, 0, 100), "segmentation": polygon(0, 0, 100), "iscrowd": 1}
    one = {"image_id": 1, "category_id": A, "bbox": box(120, 120, 40), "segmentation": polygon(120, 120, 40)}
    dataset = write_squares([crowd, one], names=["a", "b"])
    found = [
        {"image_id": 1, "category_id": A, "bbox": box(*place), "score": 0.9} for place in ((120, 120, 40), (9, 9, 20))
    ]
    truth = CocoTruth(dataset)
    analysis = analyse(truth, {"box": truth.match(found, "box")}, found, dataset)
    assert set(analysis["errors"]["counts"].values()) == {0}
    assert analysis["confusion"] == [(0, 0, 1)]
    assert (analysis["worst"], analysis["objects"]) == ([], [1, 0])
