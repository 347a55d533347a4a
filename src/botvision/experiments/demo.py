"""The main job on generated data: make the data, train, evaluate, draw."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from botvision.data import CocoDetection, write_generated_coco
from botvision.detection.checkpoint import load_detector
from botvision.detection.predict import draw_beside_truth
from botvision.experiments.catalogue import DEMO
from botvision.training.run import Outcome, start_run
from botvision.training.run_folder import numbered_folder

TRAIN_IMAGES, VAL_IMAGES = 800, 100
PICTURES = 8


class DemoOutcome(NamedTuple):
    """What the demo made."""

    run: Outcome
    pictures: list[Path]


def run_demo(out: Path, console: Console, steps: int | None = None) -> DemoOutcome:
    """Train the demo's network on generated images, evaluate it on others, draw what it finds beside the truth.

    Args:
        out: folder for the data set, the run and the pictures; data that is there already is used again.
        console: where progress goes.
        steps: fewer or more than the experiment's own.
    """
    size = DEMO.model.input_size
    console.print(f"data: {TRAIN_IMAGES} + {VAL_IMAGES} generated images of {size} pixels", highlight=False)
    data = write_generated_coco(out / "data", train_images=TRAIN_IMAGES, val_images=VAL_IMAGES, image_size=size, seed=0)
    run = replace(DEMO.run, steps=steps or DEMO.run.steps, out=numbered_folder(out / "run"))
    experiment = replace(DEMO, data=replace(DEMO.data, data=data), run=run)
    outcome = start_run(experiment, "demo/botnet50", console)
    if outcome.stopped:
        return DemoOutcome(outcome, [])
    detector = load_detector(outcome.folder / "checkpoints" / "last.ckpt")
    pictures = draw_beside_truth(
        detector, CocoDetection(data, "val"), range(PICTURES), outcome.folder / "pictures", threshold=0.5
    )
    return DemoOutcome(outcome, pictures)
