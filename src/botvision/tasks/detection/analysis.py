"""What an evaluation shows beside its scores: curves, errors by kind, confused classes, the worst images."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from hotcoco import COCOeval

from botvision.data import CocoDetection
from botvision.tasks.detection.coco import accumulated, class_names
from botvision.tasks.detection.truth import CocoTruth

CURVES = {"IoU 0.50": slice(0, 1), "IoU 0.75": slice(5, 6), "mean of IoU 0.50 to 0.95": slice(None)}
"""The precision-recall curves, and the IoU thresholds that each is a mean over."""
MATCH, BACKGROUND = 0.5, 0.1
"""IoU from which on a detection has found an object, and below which it is on the background (Bolya et al. 2020)."""
ERRORS = {"classification": "Cls", "localisation": "Loc", "both": "Both"}
ERRORS |= {"duplicate": "Dupe", "background": "Bkg", "missed": "Miss"}
"""The kinds of errors of TIDE (Bolya et al. 2020, section 2.2), and the metric's names of them."""
WORST = 8
"""Images that are shown."""
POINTS = np.arange(0.05, 1.0, 0.05).round(2).tolist()
"""Scores among which the working point is chosen."""


def analyse(
    truth: CocoTruth,
    evaluations: Mapping[str, COCOeval],
    results: Iterable[Mapping[str, Any]],
    dataset: CocoDetection,
    detections: int,
) -> dict[str, Any]:
    """What the page of an evaluation needs beside the scores, as plain data.

    Args:
        truth: of the data set.
        evaluations: what its ``match`` gave for each kind that the detector predicts.
        results: the detections, in COCO's results format.
        dataset: for names of classes.
        detections: the most detections of an image that count.

    Returns:
        "classes", their names, and "objects", how many each has; "curves" {kind: {curve: [precision at recall 0, 0.01,
        ..., 1]}}; "kind", "box" or "mask", which all that follows is about, None where nothing can be measured;
        "errors", see :func:`errors`; "threshold", see :func:`working_point`; "confusion", see :func:`confusion`; and
        "worst", see :func:`worst_images`.
    """
    count = Counter(row["category_id"] for row in truth.objects if not row["box"])
    curves = {kind: precision_curves(evaluation) for kind, evaluation in evaluations.items()}
    measured = [kind for kind in ("box", "mask") if curves.get(kind)]
    content: dict[str, Any] = {
        "classes": class_names(dataset.categories),
        "objects": [count[label] for label in truth.labels.values()],
        "curves": curves,
        "kind": measured[-1] if measured else None,
    }
    if not measured:
        return content
    kind = measured[-1]
    threshold = working_point(evaluations[kind])
    sure = (row for row in results if row["score"] >= threshold)
    return content | {
        "errors": errors(evaluations[kind]),
        "threshold": threshold,
        "confusion": confusion(evaluations[kind], threshold),
        "worst": worst_images(truth.match(sure, kind, detections=detections)),
    }


def precision_curves(evaluation: COCOeval) -> dict[str, list[float]]:
    """The :data:`CURVES`, means over the classes that have objects; empty where none has."""
    precision = accumulated(evaluation)["precision"][..., 0, -1]  # IoU thresholds x recalls x classes
    present = precision[0, 0] > -1
    if not present.any():
        return {}
    return {name: precision[own][:, :, present].mean(axis=(0, 2)).round(4).tolist() for name, own in CURVES.items()}


def errors(evaluation: COCOeval) -> dict[str, Any]:
    """Errors by kind as TIDE has them (Bolya et al. 2020).

    Returns:
        "ap50"; "counts" of the errors of each kind; and "gains", how much AP50 would rise if all of a kind were mended,
        the others staying as they are.
    """
    found = evaluation.tide_errors(pos_thr=MATCH, bg_thr=BACKGROUND)
    return {
        "ap50": found["ap_base"],
        "counts": {kind: int(found["counts"][name]) for kind, name in ERRORS.items()},
        "gains": {kind: float(found["delta_ap"][name]) for kind, name in ERRORS.items()},
    }


def working_point(evaluation: COCOeval) -> float:
    """The score from which on detections count in pictures and in the confusion matrix.

    It is the one of 0.05, 0.10, ..., 0.95 at which F1, the harmonic mean of precision and recall at IoU 0.50, averaged
    over the classes, is highest.
    """
    found = accumulated(evaluation)
    precision, scores = found["precision"][0, ..., 0, -1], found["scores"][0, ..., 0, -1]  # recalls x classes
    present = precision[0] > -1
    precision, scores = precision[:, present], scores[:, present]
    recalls = np.array(evaluation.params.rec_thrs)[:, None]
    f1 = 2 * precision * recalls / np.maximum(precision + recalls, 1e-9)
    # Of each class that which is reached by the detections down to a score: the last point of its curve until there.
    last = [np.where(scores >= point, recalls, 0.0).argmax(axis=0) for point in POINTS]
    means = [np.take_along_axis(f1, own[None], axis=0).mean() for own in last]
    return float(POINTS[int(np.argmax(means))])


def confusion(evaluation: COCOeval, threshold: float) -> list[tuple[int, int, int]]:
    """Which classes are found where which are, at IoU 0.50, by detections of this score and more.

    Returns:
        (true class, found class, how often), without what never happened. The number after the last class stands for
        no object where something was found, and for nothing found where an object is.
    """
    matrix = evaluation.confusion_matrix(iou_thr=MATCH, min_score=threshold)["matrix"]
    return [(int(row), int(column), int(matrix[row, column])) for row, column in np.argwhere(matrix)]


def worst_images(evaluation: COCOeval) -> list[dict[str, int]]:
    """The images with the lowest F1 at IoU 0.50, those with more errors first among equals.

    Returns:
        Of at most :data:`WORST` images that have an error the "image", its place in the data set, and how many objects
        were found ("right"), how many detections found none ("wrong"), and how many objects were not found ("missed").
    """
    images = evaluation.image_diagnostics(iou_thr=MATCH)["img_summary"]
    bad = [(number, one) for number, one in images.items() if one["fp"] or one["fn"]]
    bad.sort(key=lambda entry: (entry[1]["f1"], -entry[1]["fp"] - entry[1]["fn"], entry[0]))
    return [
        {"image": number - 1, "right": one["tp"], "wrong": one["fp"], "missed": one["fn"]}
        for number, one in bad[:WORST]
    ]
