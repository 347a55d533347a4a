"""A whole data set of objects looked at: `botvision data check` for detectors."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from botvision.configuration import FieldError
from botvision.data import CocoDetection, read_image
from botvision.data.findings import Findings, warnings_noted
from botvision.data.image_survey import ImageSurvey
from botvision.data.layouts import CocoSplit, find_split
from botvision.errors import UserError, first_few, short
from botvision.tasks.checked import (
    Checked,
    Picture,
    channels_to_check,
    keep_statistics,
    note_missing_classes,
)
from botvision.tasks.detection.coco import class_names
from botvision.tasks.detection.datasets import (
    NAMED,
    check_trainable,
    open_coco,
    use_categories,
    warn_of_missing_objects,
)
from botvision.tasks.detection.detectors import DETECTORS
from botvision.tasks.detection.drawing import draw_detections
from botvision.tasks.detection.results import coco_results
from botvision.tasks.detection.truth import CocoTruth
from botvision.tasks.options import CheckOptions
from botvision.training.trainable import OnImage

SPLITS, OPTIONAL = ("train", "val", "test"), "test"
SIZES = {"small": 32**2, "medium": 96**2, "large": float("inf")}
"""COCO's sizes of objects, and the largest area of each, in square pixels."""


def check_objects(folder: Path, options: CheckOptions, on_image: OnImage) -> Checked:
    """Read every split of a data set with the reader that training uses, and look at every image.

    Args:
        folder: holds the data set.
        options: what to check for.
        on_image: told how many images of a split are done.
    """
    findings = Findings()
    with warnings_noted(findings):
        datasets = open_splits(folder, options, findings)
        trains = judge(datasets, options, findings)
        survey = ImageSurvey(findings, "refused")
        every = [image.path for dataset in datasets.values() for image in dataset.images]
        channels = channels_to_check(every, options, findings)
        splits, pictures = [], []
        classes: dict[str, dict[str, Any]] = {}
        for split, dataset in datasets.items():
            dataset.channels = channels
            there = [n for n, image in enumerate(dataset.images) if image.path.is_file() and image.path.stat().st_size]
            names = [str(dataset.images[index].path) for index in there]
            survey.look(split, names, partial(read, dataset, there), on_image)
            splits.append(facts(split, dataset))
            for name, counts in sizes_by_class(dataset).items():
                classes.setdefault(name, {"class": name, "counts": {}})["counts"][split] = counts
            pictures += sample(split, dataset, there, options.pictures)
        rows = list(classes.values())
        note_missing_classes(findings, rows, [split for split, dataset in datasets.items() if dataset.objects])
        keep_statistics(str(folder), list(datasets), survey, channels, findings)
    return Checked("detection", str(folder), splits, rows, survey.statistics(), trains, findings, pictures)


def read(dataset: CocoDetection, there: Sequence[int], place: int) -> Tensor:
    """An image as stored; raises a UserError where it cannot be read, or is of another size than annotated."""
    record = dataset.images[there[place]]
    return read_image(record.path, (record.height, record.width), dataset.channels)


def open_splits(folder: Path, options: CheckOptions, findings: Findings) -> dict[str, CocoDetection]:
    """Every split that can be opened; why another cannot be is refused, but for a test split that is not there."""
    detector = DETECTORS[options.detector or "mask_rcnn"]
    found: dict[str, CocoDetection] = {}
    places: dict[CocoSplit, str] = {}
    for split in options.splits or SPLITS:
        try:
            place = find_split(folder, split, keypoints="keypoint" in detector.predicts)
        except UserError as error:
            if options.splits or split != OPTIONAL:
                findings.refuse(error, f"{split} cannot be read")
            continue
        first = places.setdefault(place, split)
        if first != split:
            problem = f"is {first} and {split}: scores on {split} do not say what new images would; see data split"
            findings.add("noted", "one file for two splits", place.annotation_file, problem)
            continue
        try:
            found[split] = open_coco(folder, split, detector, follow_links=options.follow_links, findings=findings)
        except UserError as error:
            findings.refuse(error, f"{split} cannot be read")
    return found


def judge(datasets: dict[str, CocoDetection], options: CheckOptions, findings: Findings) -> list[str]:
    """What training says of the splits together; gives the detectors that can be trained, if nothing is refused."""
    first = next(iter(datasets.values()), None)
    if first is None:
        return []
    detectors = [options.detector] if options.detector else ["mask_rcnn", "faster_rcnn", "detr"]
    note_names(first, findings)
    if "train" in datasets and (first.objects or not findings.refused):  # else what is refused are the objects
        try:
            check_trainable(first)
        except FieldError as error:  # of the detector
            if options.detector:
                findings.refuse(error, "detector")
            else:
                findings.add("noted", "no object has a mask", "", f"the detector {error.problem}")
                detectors.remove("mask_rcnn")
                first.masks = False
                refuse_where(check_trainable, findings, "train cannot be learnt", first)
        except UserError as error:
            findings.refuse(error, "train cannot be learnt")
    for split, dataset in datasets.items():
        if dataset is not first:
            reference = (first.categories, first.annotation_file)
            refuse_where(use_categories, findings, f"{split} has other categories", dataset, *reference)
            if dataset.objects or not findings.refused:
                warn_of_missing_objects(dataset)
        if not dataset.annotated:
            findings.add("noted", f"{split} without annotations", dataset.annotation_file, "nothing can be scored")
    return [name for name in detectors if name]


def note_names(dataset: CocoDetection, findings: Findings) -> None:
    """Note categories that have the same name, or that may be meant to: names that differ in case or blanks alone."""
    spellings: dict[str, set[str]] = {}
    for name, count in Counter(category.name for category in dataset.categories).items():
        spellings.setdefault("".join(name.split()).casefold(), set()).add(name)
        if count > 1:
            findings.add("noted", "categories of one name", dataset.annotation_file, f"{count} are called {name!r}")
    for names in spellings.values():
        if len(names) > 1:
            problem = f"{first_few(sorted(map(short, names)), NAMED)} are classes of their own; give them one name"
            findings.add("noted", "names that differ in case or blanks alone", dataset.annotation_file, problem)


def refuse_where(check: Any, findings: Findings, kind: str, *given: Any) -> None:  # noqa: ANN401 (any check)
    """Take in what a check refuses."""
    try:
        check(*given)
    except UserError as error:
        findings.refuse(error, kind)


def facts(split: str, dataset: CocoDetection) -> dict[str, Any]:
    """What a split holds."""
    found = {
        "split": split,
        "source": str(dataset.annotation_file),
        "images": len(dataset),
        "without object": sum(not dataset.instances(index) for index in range(len(dataset))),
        "objects": dataset.objects,
        "crowds": dataset.dropped.get("crowd", 0),
        "with mask": dataset.objects_with_mask,
    }
    return {**found, "with keypoints": dataset.objects_with_keypoints} if dataset.keypoints else found


def sizes_by_class(dataset: CocoDetection) -> dict[str, dict[str, int]]:
    """How many objects each class has, and how many of each size, by the areas that the evaluation takes."""
    names = class_names(dataset.categories)
    counts = {name: dict.fromkeys(("all", *SIZES), 0) for name in names}
    for row in CocoTruth(dataset).objects:
        if not row["box"]:  # no crowd
            own = counts[names[row["category_id"] - 1]]
            own["all"] += 1
            own[next(size for size, largest in SIZES.items() if row["area"] <= largest)] += 1
    return counts


def sample(split: str, dataset: CocoDetection, there: Sequence[int], most: int) -> list[Picture]:
    """Pictures of images that have objects, evenly spread over the split."""
    with_objects = [index for index in there if any(not one.crowd for one in dataset.instances(index))]
    pictures = []
    for index in with_objects[:: -(-len(with_objects) // most) or 1] if most else ():
        try:
            image, target = dataset[index]
        except UserError:  # is among the findings
            continue
        rows = coco_results(target, target["image_id"], dataset.categories, target["original_size"])
        drawn = draw_detections(image.as_subclass(Tensor), rows, dataset.categories)
        about = f"{image.shape[-1]} x {image.shape[-2]} pixels, {len(rows)} object{'' if len(rows) == 1 else 's'}"
        pictures.append(Picture(split, str(dataset.images[index].path), about, drawn))
    return pictures
