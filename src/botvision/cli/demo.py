"""`botvision demo`."""

from pathlib import Path
from typing import Literal

from botvision.cli.output import report_run, say, stderr
from botvision.configuration import Count
from botvision.experiments.catalogue import DEMO


def demo(
    *,
    out: Path = Path("runs/demo"),
    steps: Count | None = DEMO.run.steps,
    device: Literal["auto", "cpu", "cuda"] = DEMO.run.device,
    precision: Literal["float32", "bfloat16"] = DEMO.run.precision,
    json: bool = False,
) -> int:
    """Train a small BoTNet Mask R-CNN on generated images, evaluate it, and draw what it finds.

    Args:
        out: Folder for the data set, the run and the pictures.
        steps: Optimiser steps.
        device: auto, cpu or cuda.
        precision: Arithmetic of the network.
        json: Print the scores as JSON.
    """
    from botvision.experiments.demo import run_demo
    from botvision.tasks.detection.task import DetectionTask

    outcome, pictures = run_demo(out, stderr(), steps=steps, device=device, precision=precision)
    status = report_run(outcome, DetectionTask.tables, json)
    for picture in pictures:
        say(f"picture: {picture}")
    return status
