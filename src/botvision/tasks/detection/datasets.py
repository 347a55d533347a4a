"""The data sets of a detector: opened, compared, and refused where nothing can be learnt from them."""

import logging
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from botvision.configuration import FieldError
from botvision.data import Category, CocoDetection, keypoint_names
from botvision.errors import UserError, first_few
from botvision.tasks.detection.config import experiments_of
from botvision.tasks.detection.detector import Detector

logger = logging.getLogger("botvision")

NAMED = 5
"""Categories that a message names."""
SHARES = (
    "no box reaches farther than 1 pixel from the corner of its image; 'bbox' must be x, y, width and height in "
    "pixels, not as shares of the image"
)
"""What is said of boxes that seem to be shares."""


def open_coco(folder: Path, split: str, detector: type[Detector], **options: Any) -> CocoDetection:  # noqa: ANN401
    """Open a split of a data set, with what the detector learns of it. The options are CocoDetection's."""
    options |= {"masks": "mask" in detector.predicts, "keypoints": "keypoint" in detector.predicts}
    return CocoDetection(folder, split, **options)


def are_shares(dataset: CocoDetection) -> bool:
    """Whether the boxes seem to be shares of the image instead of pixels."""
    return bool(dataset.objects) and dataset.farthest <= 1


def check_trainable(dataset: CocoDetection) -> None:
    """Refuse a training split without an object that the detector can learn.

    Raises:
        UserError: with the counts, and the likely reason.
    """
    file = dataset.annotation_file
    if dataset.objects and dataset.masks and not dataset.objects_with_mask:
        raise FieldError(
            ("model", "detector"),
            f"should be 'faster_rcnn', which finds boxes alone, as in the experiments {experiments_of('faster_rcnn')}: "
            f"each of the {dataset.objects} objects of {file} is a box without mask ({counts(dataset.changed)})",
        )
    if dataset.objects and dataset.keypoints and not dataset.objects_with_keypoints:
        missing = "no category has 'keypoints', a list of names"
        if keypoint_names(dataset.categories):
            missing = f"each of the {dataset.objects} objects is a box without keypoints ({counts(dataset.changed)})"
        raise FieldError(
            ("model", "detector"),
            f"should be 'mask_rcnn' or 'faster_rcnn': {file} has no keypoints, {missing}; "
            "COCO has them in person_keypoints_train2017.json beside instances_train2017.json",
        )
    if are_shares(dataset):
        raise UserError(f"{file}: {SHARES}")
    if not dataset.objects:
        total = sum(dataset.dropped.values())
        reason = "none of them can be used"
        if not total:
            reason = "'annotations' is empty or missing; export the labels again"
        elif dataset.dropped.get("crowd") == total:
            reason = "all are crowds, as CVAT exports masks; set their 'iscrowd' to 0"
        raise UserError(
            f"{file}: has no object to train on in {len(dataset)} images with {total} annotations (left out: "
            f"{counts(dataset.dropped)}): {reason}"
        )


def warn_of_missing_objects(dataset: CocoDetection) -> None:
    """Say which scores of a validation split cannot be measured, or mean nothing."""
    if are_shares(dataset):
        logger.warning("%s: %s; the scores mean nothing", dataset.annotation_file, SHARES)
    if dataset.annotated and not dataset.objects:
        logger.warning("%s: has no object, so that nothing can be scored", dataset.annotation_file)
    elif dataset.objects and dataset.masks and not dataset.objects_with_mask:
        logger.warning("%s: has no mask, so that boxes alone are scored", dataset.annotation_file)
    elif dataset.objects and dataset.keypoints and not dataset.objects_with_keypoints:
        logger.warning("%s: has no keypoints, so that boxes alone are scored", dataset.annotation_file)


def use_categories(dataset: CocoDetection, categories: list[Category], source: Path) -> None:
    """Evaluate with the categories of another file, which may have more of them, and other ids for the same names.

    Args:
        dataset: changed where its categories are not these; those that it has keep their own ids.
        categories: those that the detector knows.
        source: where they come from.

    Raises:
        UserError: the data set has a category that the detector does not know.
    """
    if dataset.annotation_file == source:
        logger.warning("%s: is trained on and evaluated on: the scores say nothing about other images", source)
    own = dataset.categories
    known = categories if set(own) <= set(categories) else with_own_ids(own, categories)
    unknown = [category for category in own if category not in known]
    if unknown:
        raise UserError(
            f"{dataset.annotation_file}: its categories differ from those of {source}: {named(unknown)} "
            f"is not among {named(categories)}; give them the same names"
        )
    if known != categories:
        logger.warning("%s: its categories have other ids than in %s; names decide", dataset.annotation_file, source)
    missing = [category for category in known if category not in own]
    if missing:
        logger.warning("%s: lacks categories of %s: %s", dataset.annotation_file, source, named(missing))
    if known != own:
        dataset.use_categories(known)


def with_own_ids(own: list[Category], categories: list[Category]) -> list[Category]:
    """Categories with the ids that another file has for the same names, unless a name is there twice.

    Ids are a tool's numbers: an export of the same classes from another tool, or another day, has others.

    Args:
        own: of that file.
        categories: in the order that is kept; those that the file does not have get an id that it does not use.
    """
    if any(len({one.name for one in some}) < len(some) for some in (own, categories)):
        return categories
    by_name = {one.name: one for one in own}
    used = {one.id for one in [*own, *categories]}
    unused = (number for number in count(1) if number not in used)
    found = []
    for category in categories:
        same = by_name.get(category.name)
        if same is not None and same.keypoints == category.keypoints:
            found.append(same)
        elif any(category.id == one.id for one in own):
            found.append(replace(category, id=next(unused)))
        else:
            found.append(category)
    return found


def named(categories: list[Category]) -> str:
    """The first few categories, for a message."""

    def name(category: Category) -> str:
        points = f", {len(category.keypoints)} keypoints: {first_few(category.keypoints, 3)}"
        return f"{category.name[:60]!r} (id {category.id!s:.40}{points if category.keypoints else ''})"

    return first_few([name(category) for category in categories], NAMED)


def counts(reasons: dict[str, int]) -> str:
    """Reasons and how often each was met, in words."""
    return ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items())) or "none"


def contents(dataset: CocoDetection) -> str:
    """What a data set holds, in a few words."""
    return (
        f"{len(dataset)} images, {dataset.objects} objects, {len(dataset.categories)} classes "
        f"({dataset.annotation_file})"
    )


def changes(dataset: CocoDetection) -> str:
    """What is not as the file has it, in a few words."""
    total = sum(dataset.dropped.values())
    left_out = f"left out {total} annotations: {counts(dataset.dropped)}" if total else "nothing left out"
    return f"{left_out}; {'changed: ' + counts(dataset.changed) if dataset.changed else 'nothing changed'}"
