"""`botvision demo`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from botvision.commands.report import report_run, stderr
from botvision.experiments.demo import run_demo
from botvision.flags import parse
from botvision.training.config import at_least


@dataclass
class DemoArguments:
    """Train a small BoTNet Mask R-CNN on generated images, evaluate it, draw what it finds."""

    out: Path = Path("runs/demo")
    """Folder for the data set, the run and the pictures."""
    steps: int | None = None
    """Optimiser steps, instead of the demo's own."""
    json: bool = False
    """Print the scores as JSON."""


def demo(argv: Sequence[str]) -> int:
    """`botvision demo`."""
    arguments = parse(DemoArguments, "demo", argv)
    at_least(1, {"--steps": arguments.steps})
    outcome = run_demo(arguments.out, stderr(), arguments.steps)
    status = report_run(outcome.run, arguments.json)
    for picture in outcome.pictures:
        stderr().print(f"picture: {picture}", highlight=False, soft_wrap=True)
    return status
