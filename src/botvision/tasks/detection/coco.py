"""COCO's numbers: 12 for boxes and for masks, 10 for keypoints."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from hotcoco import COCO, COCOeval
from hotcoco import mask as coco_mask
from rich.table import Table

from botvision.data import Category, CocoDetection, ImageRecord, keypoint_names
from botvision.data.annotations import Instance
from botvision.data.masks import run_lengths

KINDS: dict[str, Literal["bbox", "segm", "keypoints"]] = {"box": "bbox", "mask": "segm", "keypoint": "keypoints"}
FIELDS = {"box": "bbox", "mask": "segmentation", "keypoint": "keypoints"}
"""Where the metric finds what it compares."""

PRECISIONS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
METRICS = (*PRECISIONS, "ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large")
"""COCO's names in COCO's order: average precision over IoU 0.50:0.95, at 0.50, at 0.75, by size of object; average
recall with 1, 10 and 100 detections an image, by size of object."""


KEYPOINT_METRICS = ("ap", "ap50", "ap75", "ap_medium", "ap_large", "ar", "ar50", "ar75", "ar_medium", "ar_large")
"""COCO's order for keypoints, with 20 detections an image; in the place of IoU is the similarity of keypoints (OKS)."""

SIGMAS = {"nose": 0.026, "eye": 0.025, "ear": 0.035, "shoulder": 0.079, "elbow": 0.072, "wrist": 0.062, "hip": 0.107}
SIGMAS |= {"knee": 0.087, "ankle": 0.089}
OTHER_SIGMA = 0.05
"""COCO's spread of each keypoint among annotators, as a share of the square root of the object's area, by the name
without "left_" or "right_"; and that of keypoints with other names, a choice of this package."""


def metrics(detections: int) -> list[str]:
    """:data:`METRICS` where not 100 but ``detections`` of an image count, such as "ar300"."""
    return [*PRECISIONS, *(f"ar{limit}" for limit in limits(detections)), *METRICS[9:]]


def limits(detections: int) -> list[int]:
    """Numbers of detections an image that recall is measured at."""
    return [limit for limit in (1, 10) if limit < detections] + [detections]


def coco_scores(
    dataset: CocoDetection, results: Sequence[dict[str, Any]], kinds: Sequence[str], *, detections: int = 100
) -> dict[str, Any]:
    """Score detections against a data set.

    Args:
        dataset: its checked annotations are the truth, its images are those that count.
        results: detections in COCO's results format, in pixels of the original images.
        kinds: of "box", "mask" and "keypoint". For keypoints the area of an object is that of its mask, or of its box
            where it has none; objects without keypoints are neither found nor missed.
        detections: the most detections of an image that count for boxes and masks, the best ones.

    Returns:
        For each kind the numbers of :func:`metrics` or :data:`KEYPOINT_METRICS`, between 0 and 1, or None where no
        object of that size exists; and "classes": for each kind {class: AP or None}, see :func:`class_names`.
    """
    numbers = {image.id: number for number, image in enumerate(dataset.images, start=1)}
    labels = {category.id: label for label, category in enumerate(dataset.categories, start=1)}
    results = [
        {**result, "image_id": numbers[result["image_id"]], "category_id": labels[result["category_id"]]}
        for result in results
    ]
    images = [{"id": numbers[image.id], "height": image.height, "width": image.width} for image in dataset.images]
    categories = [{"id": label, "name": str(label)} for label in labels.values()]
    names = keypoint_names(dataset.categories)
    rows = (
        _truth(own, image, numbers[image.id], len(names))
        for n, image in enumerate(dataset.images)
        for own in dataset.instances(n)
    )
    # Ids from 1 on: the metric takes an object of id 0 for unmatched.
    annotations = [{"id": number, **row} for number, row in enumerate(rows, start=1)]
    scores: dict[str, Any] = {"classes": {}}
    for kind in kinds:
        own = [{**row, "iscrowd": row[kind]} for row in annotations]
        truth = COCO({"images": images, "categories": categories, "annotations": own})
        scored = scorable_masks(results, annotations) if kind == "mask" else results
        evaluation = COCOeval(truth, load_results(truth, scored, kind), KINDS[kind])
        evaluation.params.cat_ids = list(labels.values())  # for keypoints it leaves out those without an object
        if kind == "keypoint":
            evaluation.params.kpt_oks_sigmas = [sigma(name) for name in names]
        else:
            evaluation.params.max_dets = limits(detections)
        evaluation.evaluate()
        evaluation.accumulate()
        scores[kind] = summary(evaluation, kind)
        scores["classes"][kind] = dict(zip(class_names(dataset.categories), class_precision(evaluation), strict=True))
    return scores


def sigma(keypoint: str) -> float:
    """How far off a keypoint of this name may be; see :data:`SIGMAS`."""
    return SIGMAS.get(keypoint.removeprefix("left_").removeprefix("right_"), OTHER_SIGMA)


def _truth(instance: Instance, image: ImageRecord, number: int, keypoints: int) -> dict[str, Any]:
    """An object as the metric wants it; under the names of the kinds, 1 where it is neither found nor missed.

    This is so of crowds, and of the masks of objects whose mask is not known: there the box is the region. Of objects
    without keypoints the metric itself knows it.
    """
    size = (image.height, image.width)
    x1, y1, x2, y2 = instance.box
    runs = run_lengths(instance.segmentation, *size)
    area = int(coco_mask.area(runs))
    return {
        "image_id": number,
        "category_id": instance.label,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "segmentation": runs if area else run_lengths([[x1, y1, x2, y1, x2, y2, x1, y2]], *size),
        "area": area or (x2 - x1) * (y2 - y1),
        "box": int(instance.crowd),
        "mask": int(instance.crowd or not area),
        "keypoint": int(instance.crowd),
        "keypoints": instance.keypoints or [0] * 3 * keypoints,
        "num_keypoints": sum(visibility > 0 for visibility in (instance.keypoints or [])[2::3]),
    }


def scorable_masks(results: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Results without the empty masks that were found for objects whose own mask is not known, going by the boxes."""
    unknown = [row for row in annotations if row["mask"] > row["box"]]

    def is_ignored(result: dict[str, Any]) -> bool:
        if "segmentation" not in result or coco_mask.area(result["segmentation"]):
            return False
        same = [row["bbox"] for row in unknown if all(row[n] == result[n] for n in ("image_id", "category_id"))]
        return bool(same) and bool((np.asarray(coco_mask.iou([result["bbox"]], same, [0] * len(same))) >= 0.5).any())

    return [result for result in results if not is_ignored(result)] if unknown else results


def load_results(truth: COCO, results: Sequence[dict[str, Any]], kind: str) -> COCO:
    """Results as the metric reads them. A mask comes without its box, so that its size is its own and not the box's."""
    left_out = set(FIELDS.values()) - {FIELDS[kind]}
    kept = [{name: row[name] for name in row if name not in left_out} for row in results if FIELDS[kind] in row]
    return truth.loadRes(kept)


def summary(evaluation: COCOeval, kind: str) -> dict[str, float | None]:
    """The numbers of :func:`metrics`, or :data:`KEYPOINT_METRICS`, of an accumulated evaluation."""
    found, limits = evaluation.eval, evaluation.params.max_dets
    precision = found["precision"][..., -1]  # IoU thresholds x recalls x classes x sizes, most detections an image
    recall = found["recall"]  # IoU thresholds x classes x sizes x detections an image
    sizes = list(enumerate(evaluation.params.area_rng_lbl))[1:]
    scores = {"ap": precision[..., 0], "ap50": precision[0, ..., 0], "ap75": precision[5, ..., 0]}
    scores |= {f"ap_{size}": precision[..., place] for place, size in sizes}
    if kind == "keypoint":
        scores |= {"ar": recall[..., 0, 0], "ar50": recall[0, :, 0, 0], "ar75": recall[5, :, 0, 0]}
    else:
        scores |= {f"ar{limit}": recall[:, :, 0, place] for place, limit in enumerate(limits)}
    scores |= {f"ar_{size}": recall[:, :, place, -1] for place, size in sizes}
    return {name: mean(values) for name, values in scores.items()}


def class_precision(evaluation: COCOeval) -> list[float | None]:
    """AP of each class over IoU 0.50:0.95, all sizes, most detections; None where the class has no object."""
    # precision: IoU thresholds x recalls x classes x sizes x detections an image
    return [mean(own) for own in np.moveaxis(evaluation.eval["precision"][:, :, :, 0, -1], 2, 0)]


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
