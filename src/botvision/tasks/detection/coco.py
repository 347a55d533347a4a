"""COCO's 12 numbers for boxes and for masks."""

import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from rich.table import Table

METRICS = (
    "ap",
    "ap50",
    "ap75",
    "ap_small",
    "ap_medium",
    "ap_large",
    "ar1",
    "ar10",
    "ar100",
    "ar_small",
    "ar_medium",
    "ar_large",
)
"""COCO's names in COCO's order: average precision over IoU 0.50:0.95, at 0.50, at 0.75, by size of object; average
recall with 1, 10 and 100 detections an image, by size of object."""

KINDS: dict[str, Literal["bbox", "segm"]] = {"box": "bbox", "mask": "segm"}


def coco_scores(
    annotation_file: Path,
    results: Sequence[dict[str, Any]],
    image_ids: Iterable[int],
    kinds: Sequence[str],
    *,
    leave_out: Collection[int] = (),
) -> dict[str, Any]:
    """Score detections against COCO annotations.

    Args:
        annotation_file: COCO instances JSON.
        results: detections in COCO's results format, in pixels of the original images.
        image_ids: the images to score, also those without a detection.
        kinds: "box", "mask" or both.
        leave_out: ids of annotations that do not count, such as boxes without area.

    Returns:
        For each kind the 12 numbers of :data:`METRICS`, between 0 and 1, or -1 where no object of that size exists;
        and "classes": for each kind {class name: AP}.
    """
    truth = COCO(ground_truth(annotation_file, leave_out))
    scores: dict[str, Any] = {"classes": {}}
    for kind in kinds:
        found = load_results(truth, results, kind)
        evaluation = COCOeval_faster(truth, found, KINDS[kind])
        evaluation.params.imgIds = sorted(image_ids)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        scores[kind] = dict(zip(METRICS, map(float, evaluation.stats[: len(METRICS)]), strict=True))
        scores["classes"][kind] = class_precision(evaluation, truth)
    return scores


def load_results(truth: COCO, results: Sequence[dict[str, Any]], kind: str) -> COCO:
    """Results as the metric reads them. A mask comes without its box, so that its size is its own and not the box's."""
    if not results:
        return COCO({**truth.dataset, "annotations": []})
    left_out = "bbox" if kind == "mask" else "segmentation"
    return truth.loadRes([{name: result[name] for name in result if name != left_out} for result in results])


def ground_truth(annotation_file: Path, leave_out: Collection[int]) -> dict[str, Any]:
    """Read annotations, with the fields that COCO's metric needs and other tools leave out.

    Annotations get the ids 1, 2, ...: the metric takes an object of id 0 for unmatched, and ids of over 64 bits, or
    texts, do not fit its arrays.
    """
    content = json.loads(annotation_file.read_text(encoding="utf-8"))
    counted = [entry for entry in content["annotations"] if entry["id"] not in leave_out]
    content["annotations"] = [{**entry, "id": number} for number, entry in enumerate(counted, start=1)]
    for annotation in content["annotations"]:
        annotation.setdefault("iscrowd", 0)
        annotation.setdefault("area", annotation["bbox"][2] * annotation["bbox"][3])
    return content


def class_precision(evaluation: COCOeval_faster, truth: COCO) -> dict[str, float]:
    """AP of each class over IoU 0.50:0.95, all sizes, 100 detections; -1 where the class has no object."""
    # precision: IoU thresholds x recalls x classes x sizes x detections an image
    precision = np.asarray(evaluation.eval["precision"])[:, :, :, 0, -1]
    names = [truth.cats[category]["name"] for category in evaluation.params.catIds]
    by_class = (precision[:, :, index] for index in range(len(names)))
    return {name: float(p[p > -1].mean()) if (p > -1).any() else -1.0 for name, p in zip(names, by_class, strict=True)}


def scores_table(scores: dict[str, Any]) -> Table:
    """The 12 numbers as a table, in percent."""
    kinds = [kind for kind in KINDS if kind in scores]
    table = Table("", *(f"{kind} (%)" for kind in kinds))
    for metric in METRICS:
        table.add_row(metric, *(percent(scores[kind][metric]) for kind in kinds))
    return table


def class_table(scores: dict[str, Any]) -> Table:
    """AP class by class, in percent."""
    kinds = list(scores["classes"])
    table = Table("class", *(f"{kind} AP (%)" for kind in kinds))
    for name in scores["classes"][kinds[0]]:
        table.add_row(name, *(percent(scores["classes"][kind][name]) for kind in kinds))
    return table


def percent(share: float) -> str:
    """A share as a percentage, or a dash where there was nothing to measure."""
    return "-" if share < 0 else f"{100 * share:.1f}"
