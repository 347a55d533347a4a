"""`botvision predict`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from botvision.commands.report import stderr
from botvision.detection.checkpoint import load_detector
from botvision.detection.predict import predict_files
from botvision.errors import UserError
from botvision.files import write_text
from botvision.flags import parse
from botvision.pictures import find_images
from botvision.training.processes import pick_device
from botvision.training.progress import Reporter


@dataclass
class PredictArguments:
    """Detect on images: COCO results and pictures."""

    checkpoint: Positional[Path]
    """A checkpoint, or a run folder (its best checkpoint)."""
    images: Positional[tuple[Path, ...]]
    """Image files, or folders of them."""
    out: Path
    """Folder for predictions.json and the pictures."""
    threshold: float = 0.5
    """Detections that score less are left out."""
    device: str = "auto"
    """auto, cpu or cuda."""
    json: bool = False
    """Print the detections as JSON too."""


def predict(argv: Sequence[str]) -> int:
    """`botvision predict RUN-or-CHECKPOINT IMAGE... --out DIR`."""
    arguments = parse(PredictArguments, "predict", argv)
    if not 0 <= arguments.threshold <= 1:
        raise UserError(f"--threshold must be between 0 and 1, got {arguments.threshold}")
    if not arguments.images:
        raise UserError("no image given: botvision predict RUN-or-CHECKPOINT IMAGE... --out DIR")
    files = find_images(arguments.images)
    detector = load_detector(arguments.checkpoint, pick_device(arguments.device))
    with Reporter(stderr()) as reporter:
        results = predict_files(
            detector,
            files,
            arguments.out,
            threshold=arguments.threshold,
            on_image=lambda done, total: reporter.show("detecting, image", done, total),
        )
    write_text(arguments.out / "predictions.json", json.dumps(results) + "\n")
    stderr().print(f"{len(results)} objects in {len(files)} images, written to {arguments.out}", soft_wrap=True)
    if arguments.json:
        print(json.dumps(results))
    return 0
