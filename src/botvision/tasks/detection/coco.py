"""COCO's numbers: 12 for boxes and for masks, 10 for keypoints."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from hotcoco import COCOeval
from rich.table import Table

from botvision.data import Category, CocoDetection
from botvision.tasks.detection.truth import KINDS, CocoTruth, limits

PRECISIONS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
METRICS = (*PRECISIONS, "ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large")
"""COCO's names in COCO's order: average precision over IoU 0.50:0.95, at 0.50, at 0.75, by size of object; average
recall with 1, 10 and 100 detections an image, by size of object."""


KEYPOINT_METRICS = ("ap", "ap50", "ap75", "ap_medium", "ap_large", "ar", "ar50", "ar75", "ar_medium", "ar_large")
"""COCO's order for keypoints, with 20 detections an image; in the place of IoU is the similarity of keypoints (OKS)."""


def metrics(detections: int) -> list[str]:
    """:data:`METRICS` where not 100 but ``detections`` of an image count, such as "ar300"."""
    return [*PRECISIONS, *(f"ar{limit}" for limit in limits(detections)), *METRICS[9:]]


def coco_scores(
    dataset: CocoDetection, results: Iterable[Mapping[str, Any]], kinds: Sequence[str], *, detections: int = 100
) -> dict[str, Any]:
    """Score detections against a data set.

    Args:
        dataset: its checked annotations are the truth, its images are those that count.
        results: detections in COCO's results format, in pixels of the original images.
        kinds: of "box", "mask" and "keypoint"; see :class:`~botvision.tasks.detection.truth.CocoTruth`.
        detections: the most detections of an image that count for boxes and masks, the best ones.

    Returns:
        For each kind the numbers of :func:`metrics` or :data:`KEYPOINT_METRICS`, between 0 and 1, or None where no
        object of that size exists; and "classes": for each kind {class: AP or None}, see :func:`class_names`.
    """
    truth = CocoTruth(dataset)
    return summaries({kind: truth.match(results, kind, detections=detections) for kind in kinds}, dataset.categories)


def summaries(evaluations: Mapping[str, COCOeval], categories: Sequence[Category]) -> dict[str, Any]:
    """The scores of :func:`coco_scores` from what :meth:`CocoTruth.match` gave for each kind."""
    names = class_names(categories)
    scores: dict[str, Any] = {"classes": {}}
    for kind, evaluation in evaluations.items():
        scores[kind] = summary(evaluation, kind)
        scores["classes"][kind] = dict(zip(names, class_precision(evaluation), strict=True))
    return scores


def summary(evaluation: COCOeval, kind: str) -> dict[str, float | None]:
    """The numbers of :func:`metrics`, or :data:`KEYPOINT_METRICS`, of an accumulated evaluation."""
    found = accumulated(evaluation)
    precision = found["precision"][..., -1]  # IoU thresholds x recalls x classes x sizes, most detections an image
    recall = found["recall"]  # IoU thresholds x classes x sizes x detections an image
    sizes = list(enumerate(evaluation.params.area_rng_lbl))[1:]
    scores = {"ap": precision[..., 0], "ap50": precision[0, ..., 0], "ap75": precision[5, ..., 0]}
    scores |= {f"ap_{size}": precision[..., place] for place, size in sizes}
    if kind == "keypoint":
        scores |= {"ar": recall[..., 0, 0], "ar50": recall[0, :, 0, 0], "ar75": recall[5, :, 0, 0]}
    else:
        scores |= {f"ar{limit}": recall[:, :, 0, place] for place, limit in enumerate(evaluation.params.max_dets)}
    scores |= {f"ar_{size}": recall[:, :, place, -1] for place, size in sizes}
    return {name: mean(values) for name, values in scores.items()}


def accumulated(evaluation: COCOeval) -> dict[str, np.ndarray]:
    """Precision, recall and scores of an accumulated evaluation."""
    assert evaluation.eval is not None
    return evaluation.eval


def class_precision(evaluation: COCOeval) -> list[float | None]:
    """AP of each class over IoU 0.50:0.95, all sizes, most detections; None where the class has no object."""
    # precision: IoU thresholds x recalls x classes x sizes x detections an image
    return [mean(own) for own in np.moveaxis(accumulated(evaluation)["precision"][:, :, :, 0, -1], 2, 0)]


def class_names(categories: Sequence[Category]) -> list[str]:
    """Names of classes, with COCO's id where several have the same."""
    count = Counter(category.name for category in categories)
    return [c.name if count[c.name] == 1 else f"{c.name} (id {c.id})" for c in categories]


def mean(values: np.ndarray) -> float | None:
    """The mean of what was measured, None of nothing; the metric writes -1 where there was nothing to measure.

    It is rounded to 12 decimals: the metric adds 2.2e-16 to divisors that could be 0.
    """
    measured = values[values > -1]
    return round(float(measured.mean()), 12) if measured.size else None


def scores_table(scores: dict[str, Any]) -> Table:
    """The numbers as a table, in percent."""
    kinds = [kind for kind in KINDS if kind in scores]
    most = list(scores[kinds[0]])[-4].removeprefix("ar")
    caption = f"at most {most} detections an image" + (", 20 for keypoints" if "keypoint" in kinds else "")
    table = Table("", *(f"{kind} (%)" for kind in kinds), caption=caption)
    for metric in dict.fromkeys(name for kind in kinds for name in scores[kind]):
        table.add_row(metric, *(percent(scores[kind].get(metric)) for kind in kinds))
    return table


def class_table(scores: dict[str, Any]) -> Table:
    """AP class by class, in percent."""
    kinds = list(scores["classes"])
    table = Table("class", *(f"{kind} AP (%)" for kind in kinds))
    for name in scores["classes"][kinds[0]]:
        table.add_row(name, *(percent(scores["classes"][kind][name]) for kind in kinds))
    return table


def percent(share: float | None) -> str:
    """A share as a percentage, or a dash where there was nothing to measure."""
    return "-" if share is None else f"{100 * share:.1f}"
