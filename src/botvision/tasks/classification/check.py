"""A whole data set of classes looked at: `botvision data check` for classifiers."""

from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from botvision.configuration import FieldError
from botvision.data import ImageClasses, check_same_classes, open_classes
from botvision.data.findings import Findings, warnings_noted
from botvision.data.image_survey import ImageSurvey
from botvision.errors import UserError
from botvision.tasks.checked import (
    Checked,
    Picture,
    channels_to_check,
    keep_statistics,
    note_missing_classes,
)
from botvision.tasks.classification.drawing import draw_ranking
from botvision.tasks.options import CheckOptions
from botvision.training.skipped_images import too_many
from botvision.training.trainable import OnImage

SPLITS, OPTIONAL = ("train", "val", "test"), "test"


def check_classes(data: str, options: CheckOptions, on_image: OnImage) -> Checked:
    """Read every split of a data set with the reader that training uses, and look at every image.

    Args:
        data: folder, URL or pattern of shards.
        options: what to check.
        on_image: told how many images of a split are done.

    Raises:
        FieldError: a detector is given, and the data are no annotated objects.
    """
    if options.detector:
        raise FieldError(("detector",), f"needs annotated objects, and {data} has classes of images")
    findings = Findings()
    with warnings_noted(findings):
        datasets = open_splits(data, options, findings)
        first = next(iter(datasets.values()), None)
        survey = ImageSurvey(findings, "left out")
        every = [dataset.images.name(index) for dataset in datasets.values() for index in range(len(dataset))]
        channels = channels_to_check(every, options, findings)
        pictures: list[Picture] = []
        for split, dataset in datasets.items():
            dataset.channels = channels
            names = [dataset.images.name(index) for index in range(len(dataset))]
            unreadable = survey.look(split, names, partial(read, dataset), on_image)
            if split == "train" and too_many(unreadable, len(dataset)):
                findings.add(
                    "refused", "too many images cannot be read", "", f"{unreadable} of {len(dataset)} of train"
                )
            if first is not None and dataset is not first:
                try:
                    check_same_classes(first, dataset)
                except UserError as error:
                    findings.refuse(error, f"{split} has other classes")
            pictures += sample(split, dataset, options.pictures)
        rows = counts_by_class(datasets)
        note_missing_classes(findings, rows, datasets)
        keep_statistics(data, list(datasets), survey, channels, findings)
    if first is not None and len(first.classes) < 2:
        findings.add("refused", "one class alone", str(first.source), f"has only the class {first.class_names[0]!r}")
    splits = [
        {"split": split, "source": str(dataset.source), "images": len(dataset)} for split, dataset in datasets.items()
    ]
    return Checked("classification", data, splits, rows, survey.statistics(), ["classifiers"], findings, pictures)


def open_splits(data: str, options: CheckOptions, findings: Findings) -> dict[str, ImageClasses]:
    """Every split that can be opened; why another cannot be is refused, but for a test split that is not there."""
    found: dict[str, ImageClasses] = {}
    for split in options.splits or SPLITS:
        try:
            opened = open_classes(data, split, follow_links=options.follow_links, findings=findings)
        except UserError as error:
            if options.splits or split != OPTIONAL:
                findings.refuse(error, f"{split} cannot be read")
            continue
        if opened.source not in {other.source for other in found.values()}:  # val/ may be test/
            found[split] = opened
    return found


def read(dataset: ImageClasses, index: int) -> Tensor:
    """The image as stored; raises a UserError where it cannot be read."""
    image, about = dataset[index]
    if image is None:
        raise UserError(f"{about['path']}: {about['reason']}")
    return image


def counts_by_class(datasets: dict[str, ImageClasses]) -> list[dict[str, Any]]:
    """How many images of each class the splits have."""
    rows: dict[str, dict[str, Any]] = {}
    for split, dataset in datasets.items():
        counts = np.bincount(dataset.labels, minlength=len(dataset.classes)).tolist()
        for name, called, count in zip(dataset.classes, dataset.class_names, counts, strict=True):
            shown = name if name == called else f"{called} ({name})"
            rows.setdefault(name, {"class": shown, "counts": {}})["counts"][split] = {"all": count}
    return list(rows.values())


def sample(split: str, dataset: ImageClasses, most: int) -> list[Picture]:
    """Pictures of images with their classes, of as many classes as there can be."""
    by_class = [np.flatnonzero(dataset.labels == label) for label in range(len(dataset.classes))]
    by_class = [own for own in by_class if len(own)]
    chosen = [int(own[turn]) for turn in range(most) for own in by_class if turn < len(own)][:most]
    pictures = []
    for index in chosen:
        image, about = dataset[index]
        if image is not None:  # else it is among the findings
            name = dataset.class_names[about["label"]]
            size = f"{image.shape[-1]} x {image.shape[-2]} pixels"
            pictures.append(Picture(split, about["path"], f"{name}, {size}", draw_ranking(image, [(name, 1.0)])))
    return pictures
