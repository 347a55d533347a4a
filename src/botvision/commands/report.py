"""What commands say: how a run ended, its scores, and where messages go."""

import json
from typing import Any

from rich.console import Console
from rich.table import Table

from botvision.commands import INTERRUPTED
from botvision.evaluation import class_table, classification_table, scores_table
from botvision.training.processes import first_process
from botvision.training.run import Outcome


def report_run(outcome: Outcome, as_json: bool) -> int:
    """Say how a run ended; the exit status is 130 where it was interrupted."""
    if outcome.stopped:
        stderr().print(
            f"stopped after step {outcome.steps}; go on with: botvision train --resume {outcome.folder}",
            highlight=False,
            soft_wrap=True,
        )
        return INTERRUPTED
    if outcome.scores or as_json:
        show_scores(outcome.scores or {}, as_json)
    stderr().print(f"run: {outcome.folder}", highlight=False, soft_wrap=True)
    return 0


def show_scores(scores: dict[str, Any], as_json: bool, classes: bool = False) -> None:
    """Print scores as JSON, or as tables; ``classes`` adds the AP of each class, which detectors have."""
    if not first_process():
        return
    if as_json:
        print(json.dumps(scores, allow_nan=False))
        return
    if "top1" in scores:
        tables: list[Table] = [classification_table(scores)]
    else:
        tables = [scores_table(scores)] + ([class_table(scores)] if classes else [])
    for table in tables:
        Console(markup=False).print(table)


def stderr() -> Console:
    """Where progress and messages go; of several processes the first alone speaks."""
    return Console(stderr=True, quiet=not first_process(), markup=False)
