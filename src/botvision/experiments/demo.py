"""The main job on generated data: make the data, train, evaluate, draw."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console

from botvision.data import write_generated_coco
from botvision.experiments.catalogue import DEMO
from botvision.tasks.detection.predict import draw_beside_truth
from botvision.tasks.detection.task import DetectionTask
from botvision.training.run_name import numbered_folder
from botvision.training.trainer import Outcome, start

TRAIN_IMAGES, VAL_IMAGES = 800, 100
PICTURES = 8


def run_demo(out: Path, console: Console, **changes: Any) -> tuple[Outcome, list[Path]]:  # noqa: ANN401
    """Train the demo's network on generated images, evaluate it on others, draw what it finds beside the truth.

    Data that is in ``out`` already is used again.

    Args:
        out: folder for the data set and the run.
        console: shows progress.
        changes: fields of the run that are not the experiment's own.

    Returns:
        How the run ended, and the pictures.
    """
    size = DEMO.model.input_size
    console.print(f"data: {TRAIN_IMAGES} + {VAL_IMAGES} generated images of {size} pixels", highlight=False)
    data = write_generated_coco(out / "data", train_images=TRAIN_IMAGES, val_images=VAL_IMAGES, image_size=size, seed=0)
    run = DEMO.run.replace(**changes, out=numbered_folder(out / "run"))
    task = DetectionTask(DEMO.replace(data=DEMO.data.replace(data=data), run=run))
    outcome = start(task, "demo/botnet50", console)
    if outcome.stopped:
        return outcome, []
    results = json.loads((outcome.folder / "eval" / "detections.json").read_text(encoding="utf-8"))
    folder = outcome.folder / "pictures"
    return outcome, draw_beside_truth(results, task.val_set, range(PICTURES), folder, threshold=0.5)
