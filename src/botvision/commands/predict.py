"""`botvision predict`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from tyro.conf import Positional

from botvision.checkpoint import checkpoint_kind
from botvision.classification.checkpoint import load_classifier
from botvision.classification.predict import classify_files, predictions_table
from botvision.commands.kinds import refuse_flags
from botvision.commands.report import stderr
from botvision.detection.checkpoint import load_detector
from botvision.detection.predict import predict_files
from botvision.errors import UserError
from botvision.files import write_text
from botvision.flags import parse
from botvision.pictures import find_images
from botvision.training.config import at_least
from botvision.training.processes import pick_device
from botvision.training.progress import Reporter


@dataclass
class PredictArguments:
    """Detect on images, or classify them: results as JSON, and pictures."""

    checkpoint: Positional[Path]
    """A checkpoint, or a run folder (its best checkpoint)."""
    images: Positional[tuple[Path, ...]]
    """Image files, or folders of them; those that cannot be read are left out, with a warning."""
    out: Path
    """Folder for predictions.json and the pictures, another one than that of the images."""
    threshold: float | None = None
    """Detectors: detections that score less are left out; 0.5 by default."""
    top: int | None = None
    """Classifiers: how many of the likeliest classes are named; 5 by default."""
    device: str = "auto"
    """auto, cpu or cuda."""
    json: bool = False
    """Print the results as JSON; a classifier's table is then left out."""


def predict(argv: Sequence[str]) -> int:
    """`botvision predict RUN-or-CHECKPOINT IMAGE... --out DIR`."""
    arguments = parse(PredictArguments, "predict", argv)
    if arguments.threshold is not None and not 0 <= arguments.threshold <= 1:
        raise UserError(f"--threshold must be between 0 and 1, got {arguments.threshold}")
    at_least(1, {"--top": arguments.top})
    if not arguments.images:
        raise UserError("no image given: botvision predict RUN-or-CHECKPOINT IMAGE... --out DIR")
    files = find_images(arguments.images)
    if checkpoint_kind(arguments.checkpoint) == "detection":
        refuse_flags("detection", {"--top": arguments.top is not None})
        predict_detections(arguments, files)
    else:
        refuse_flags("classification", {"--threshold": arguments.threshold is not None})
        predict_classes(arguments, files)
    return 0


def predict_detections(arguments: PredictArguments, files: Sequence[Path]) -> None:
    """Detect on image files, write and print what was found."""
    detector = load_detector(arguments.checkpoint, pick_device(arguments.device))
    with Reporter(stderr()) as reporter:
        results = predict_files(
            detector,
            files,
            arguments.out,
            threshold=0.5 if arguments.threshold is None else arguments.threshold,
            on_image=lambda done, total: reporter.show("detecting, image", done, total),
        )
    write_text(arguments.out / "predictions.json", json.dumps(results) + "\n")
    stderr().print(
        f"{len(results)} objects found, {len(files)} images given, written to {arguments.out}", soft_wrap=True
    )
    if arguments.json:
        print(json.dumps(results))


def predict_classes(arguments: PredictArguments, files: Sequence[Path]) -> None:
    """Classify image files, write and print what came out."""
    classifier = load_classifier(arguments.checkpoint, pick_device(arguments.device))
    with Reporter(stderr()) as reporter:
        results = classify_files(
            classifier,
            files,
            arguments.out,
            top=arguments.top or 5,
            on_image=lambda done, total: reporter.show("classifying, image", done, total),
        )
    write_text(arguments.out / "predictions.json", json.dumps(results) + "\n")
    stderr().print(f"{len(results)} images, written to {arguments.out}", highlight=False, soft_wrap=True)
    if arguments.json:
        print(json.dumps(results))
    else:
        Console(markup=False).print(predictions_table(results))
