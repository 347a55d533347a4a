"""What an evaluation shows beside its scores: curves, errors by kind, confused classes, the worst images."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from hotcoco import COCOeval
from hotcoco import mask as coco_mask

from botvision.data import CocoDetection
from botvision.tasks.detection.coco import accumulated, class_names
from botvision.tasks.detection.stored_results import StoredResults, rows_by_image
from botvision.tasks.detection.truth import FIELDS, CocoTruth

CURVES = {"IoU 0.50": slice(0, 1), "IoU 0.75": slice(5, 6), "mean of IoU 0.50 to 0.95": slice(None)}
"""The precision-recall curves, and the IoU thresholds that each is a mean over."""
MATCH, BACKGROUND = 0.5, 0.1
"""IoU from which on a detection has found an object, and below which it is on the background (Bolya et al. 2020)."""
ERRORS = {"classification": "Cls", "localisation": "Loc", "both": "Both"}
ERRORS |= {"duplicate": "Dupe", "background": "Bkg", "missed": "Miss"}
"""The kinds of errors of TIDE (Bolya et al. 2020, section 2.2), and the metric's names of them."""
WORST = 8
"""Images that are shown."""
NOTHING = 0
"""Stands for no object, and for no detection, in a :data:`Pair`."""
Pair = tuple[int, int]
"""Label of an object, and that of the detection that found it."""
POINTS = np.arange(0.05, 1.0, 0.05).round(2).tolist()
"""Scores among which the working point is chosen."""
UNKNOWN_POINT = 0.5
"""Where nothing is found at any of them."""


def analyse(
    truth: CocoTruth,
    evaluations: Mapping[str, COCOeval],
    results: StoredResults | Iterable[dict[str, Any]],
    dataset: CocoDetection,
) -> dict[str, Any]:
    """What the page of an evaluation needs beside the scores, as plain data.

    Args:
        truth: of the data set.
        evaluations: what its ``match`` gave for each kind that the detector predicts.
        results: the detections, in COCO's results format.
        dataset: for names of classes.

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
    pairs = image_pairs(truth, results, kind, threshold)
    return content | {
        "errors": errors(evaluations[kind]),
        "threshold": threshold,
        "confusion": confusion(pairs, len(truth.labels)),
        "worst": worst_images(pairs),
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
    over the classes, is highest; the highest one of several.
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
    best, point = max(zip(means, POINTS, strict=True))
    return float(point) if best else UNKNOWN_POINT


def image_pairs(
    truth: CocoTruth, results: StoredResults | Iterable[dict[str, Any]], kind: str, threshold: float
) -> list[list[Pair]]:
    """For each image of a data set which objects were found as what, by detections of this score and more."""
    objects: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in truth.objects:
        objects[row["image_id"]].append(row)
    rows_of = rows_by_image(results)
    found = []
    for image_id, number in truth.numbers.items():
        sure = [row for row in rows_of(image_id) if row["score"] >= threshold and FIELDS[kind] in row]
        labelled = [{**row, "category_id": truth.labels[row["category_id"]]} for row in sure]
        found.append(find_pairs(objects[number], labelled, kind))
    return found


def find_pairs(objects: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], kind: str) -> list[Pair]:
    """Which objects of an image were found as what.

    Stronger detections choose first, each the free object of its class with the highest IoU from 0.50 on; then those
    that are left choose among the objects of other classes.

    Args:
        objects: of the image, as :class:`CocoTruth` has them.
        rows: detections, with labels in the place of ids of classes.
        kind: "box" or "mask".
    """
    rows = sorted(rows, key=lambda row: -row["score"])
    free = {place: row["category_id"] for place, row in enumerate(objects) if not row[kind]}
    pairs: list[Pair] = []
    overlaps = np.zeros((len(rows), len(objects)))
    if rows and objects:
        found, true = ([row[FIELDS[kind]] for row in of] for of in (rows, objects))
        overlaps = coco_mask.iou(found, true, [row[kind] for row in objects])
    left = dict(enumerate(row["category_id"] for row in rows))
    for same_class in (True, False):
        for number, label in list(left.items()):
            near = [p for p in free if overlaps[number, p] >= MATCH and (free[p] == label or not same_class)]
            if near:
                pairs.append((free.pop(max(near, key=lambda place: overlaps[number, place])), left.pop(number)))
    for number, label in left.items():
        ignored = (place for place, row in enumerate(objects) if row[kind] and row["category_id"] == label)
        if not any(overlaps[number, place] >= MATCH for place in ignored):
            pairs.append((NOTHING, label))
    return pairs + [(label, NOTHING) for label in free.values()]


def confusion(pairs: Iterable[Sequence[Pair]], classes: int) -> list[tuple[int, int, int]]:
    """Which classes are found where which are.

    Returns:
        (true class, found class, how often), without what never happened. Classes count from 0 on; the number after the
        last one stands for no object where something was found, and for nothing found where an object is.
    """
    counts = Counter(pair for image in pairs for pair in image)
    return sorted(
        ((true or classes + 1) - 1, (found or classes + 1) - 1, count) for (true, found), count in counts.items()
    )


def worst_images(pairs: Sequence[Sequence[Pair]]) -> list[dict[str, int]]:
    """The images with the lowest F1, those with more errors first among equals.

    Returns:
        Of at most :data:`WORST` images that have an error the "image", its place in the data set, and how many objects
        were found ("right"), how many detections found none of their class ("wrong"), and how many objects were not
        found as what they are ("missed").
    """
    images = []
    for place, own in enumerate(pairs):
        right = sum(true == found for true, found in own)
        wrong, missed = (sum(pair[0] != pair[1] and pair[n] != NOTHING for pair in own) for n in (1, 0))
        if wrong or missed:
            f1 = 2 * right / (2 * right + wrong + missed)
            entry = {"image": place, "right": right, "wrong": wrong, "missed": missed}
            images.append((f1, -wrong - missed, place, entry))
    return [entry for *_, entry in sorted(images, key=lambda image: image[:3])[:WORST]]
