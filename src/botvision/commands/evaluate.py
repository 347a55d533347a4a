"""`botvision eval`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from tyro.conf import Positional

from botvision.checkpoint import checkpoint_kind
from botvision.classification.checkpoint import load_classifier
from botvision.commands.kinds import refuse_flags
from botvision.commands.report import show_scores, stderr
from botvision.data import CocoDetection, eval_crop, eval_transform
from botvision.detection.checkpoint import load_detector
from botvision.detection.predict import draw_beside_truth
from botvision.errors import UserError
from botvision.evaluation import (
    confused_table,
    confusion_matrix,
    evaluate_classifier,
    evaluate_detector,
    most_confused,
    open_labelled,
    write_classification,
)
from botvision.flags import parse
from botvision.training.config import at_least
from botvision.training.processes import pick_device
from botvision.training.progress import Reporter
from botvision.training.run_folder import write_evaluation

CROP = 0.875
"""Share of the scaled image's side that the test crop takes (Tables 9 and 10)."""


@dataclass
class EvalArguments:
    """COCO's 12 numbers of a detector, or accuracy and calibration of a classifier: written as JSON and printed."""

    checkpoint: Positional[Path]
    """A checkpoint, or a run folder (its best checkpoint)."""
    data: str
    """For a detector a folder in COCO's layout; for a classifier class folders, idx files, or shards: a folder, a URL,
    which is copied to ~/.cache/botvision/shards (XDG_CACHE_HOME moves ~/.cache), or patterns of shards joined by "::",
    such as shards/train-{000000..000009}.tar::shards/val-000000.tar."""
    split: str = "val"
    """Split to evaluate on; also test, where there is such a folder."""
    images: int | None = None
    """Evaluate on so many images alone: a detector on the first ones, a classifier on the first of every class."""
    batch_size: int | None = None
    """Images at once; 4 for a detector, 64 for a classifier by default."""
    workers: int = 1
    """Processes that read images."""
    device: str = "auto"
    """auto, cpu or cuda."""
    classes: bool = False
    """Detectors: print AP class by class too."""
    pictures: int = 0
    """Detectors: draw the first so many images, what was found beside the truth."""
    input_size: int | None = None
    """Classifiers: height and width of the crop in pixels; what the model was trained for by default."""
    crop: float | None = None
    """Classifiers: side of the centre crop, as a share of the image's shorter side; 0.875 by default."""
    ema: bool = True
    """Classifiers: take the average of the weights, where the run kept one; --no-ema takes those of the last step."""
    labels: Path | None = None
    """Classifiers: labels that count instead: ImageNet-ReaL's JSON, or lines of a path and a label."""
    out: Path | None = None
    """Folder for the results; eval/<split> in the run folder by default, beside what the training wrote."""
    json: bool = False
    """Print the scores as JSON."""


def evaluate(argv: Sequence[str]) -> int:
    """`botvision eval RUN-or-CHECKPOINT --data DIR`."""
    arguments = parse(EvalArguments, "eval", argv)
    at_least(1, {"--images": arguments.images, "--batch-size": arguments.batch_size})
    at_least(1, {"--input-size": arguments.input_size})
    at_least(0, {"--workers": arguments.workers, "--pictures": arguments.pictures})
    if arguments.crop is not None and not 0 < arguments.crop <= 1:
        raise UserError(f"--crop must be more than 0 and at most 1, got {arguments.crop}")
    out = arguments.out or (arguments.checkpoint / "eval" / arguments.split if arguments.checkpoint.is_dir() else None)
    if arguments.pictures and not out:
        raise UserError("--pictures needs --out where a checkpoint is evaluated outside its run folder")
    if checkpoint_kind(arguments.checkpoint) == "detection":
        of_classifiers = {"--input-size": arguments.input_size, "--crop": arguments.crop, "--labels": arguments.labels}
        given = {flag: value is not None for flag, value in of_classifiers.items()}
        refuse_flags("detection", {**given, "--no-ema": not arguments.ema})
        evaluate_detection(arguments, out)
    else:
        refuse_flags("classification", {"--classes": arguments.classes, "--pictures": arguments.pictures > 0})
        evaluate_classification(arguments, out)
    if out:
        stderr().print(f"written to {out}", highlight=False, soft_wrap=True)
    return 0


def evaluate_detection(arguments: EvalArguments, out: Path | None) -> None:
    """Score a detector, write and print what came out."""
    detector = load_detector(arguments.checkpoint, pick_device(arguments.device))
    transform = eval_transform(detector.model.config.input_size)
    dataset = CocoDetection(Path(arguments.data), arguments.split, transform, limit=arguments.images)
    if dataset.categories != detector.categories:
        raise UserError(f"{dataset.annotation_file}: its categories are not those of {detector.path}")
    with Reporter(stderr()) as reporter:
        scores, results = evaluate_detector(
            detector.model,
            dataset,
            batch_size=arguments.batch_size or 4,
            workers=arguments.workers,
            on_image=lambda done, total: reporter.show("evaluating, image", done, total),
        )
    if out:
        about = {"checkpoint": str(detector.path), "data": arguments.data, "split": arguments.split}
        write_evaluation(out, scores, results, **about)
        dataset.transform = None
        drawn = range(min(arguments.pictures, len(dataset)))
        draw_beside_truth(detector, dataset, drawn, out / "pictures", threshold=0.5)
    show_scores(scores, arguments.json, arguments.classes)


def evaluate_classification(arguments: EvalArguments, out: Path | None) -> None:
    """Score a classifier, write and print what came out."""
    classifier = load_classifier(arguments.checkpoint, pick_device(arguments.device), ema=arguments.ema)
    size = arguments.input_size or classifier.model.config.image_size
    crop = arguments.crop or CROP
    dataset, right_labels = open_labelled(
        arguments.data,
        arguments.split,
        eval_crop(size, crop),
        classifier.classes,
        classifier.class_names,
        labels=arguments.labels,
        limit=arguments.images,
    )
    with Reporter(stderr()) as reporter:
        scores, predictions = evaluate_classifier(
            classifier.model,
            dataset,
            batch_size=arguments.batch_size or 64,
            workers=arguments.workers,
            on_image=lambda done, total: reporter.show("evaluating, image", done, total),
            right_labels=right_labels,
        )
    if out:
        about: dict[str, Any] = {"checkpoint": str(classifier.path), "data": arguments.data, "split": arguments.split}
        about |= {"labels": str(arguments.labels) if arguments.labels else None}
        about |= {"input_size": size, "crop": crop, "ema": arguments.ema}
        write_classification(out, scores, predictions, classifier.class_names, **about)
    show_scores(scores, arguments.json)
    if not arguments.json:
        matrix = confusion_matrix(predictions, len(classifier.classes))
        Console(markup=False).print(confused_table(most_confused(matrix, classifier.class_names)))
