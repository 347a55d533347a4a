"""Finished evaluations: their files read back, for pages that show them."""

import csv
import json
from pathlib import Path
from typing import Any, NamedTuple

from botvision.errors import UserError
from botvision.files import read_file, write_text
from botvision.training.curves import read_curves
from botvision.training.run_folder import read_config

METRICS, ANALYSIS, PAGE = "metrics.json", "analysis.json", "report.html"
"""The files of an evaluation that every task writes into its folder."""
LARGEST = 2**28
"""Bytes of a file that is read."""

Curves = dict[str, list[tuple[int, float]]]


class Evaluated(NamedTuple):
    """An evaluation, and the run that it is of."""

    name: str
    """For people to read: that of the run's folder, or of the evaluation's own."""
    experiment: str
    """What was trained; empty where the folder is not in a run's."""
    scores: dict[str, Any]
    """The content of metrics.json."""
    analysis: dict[str, Any]
    """The content of analysis.json."""
    losses: Curves
    """Of the training; empty without the run."""
    history: Curves
    """The scores of the run's evaluations so far."""


def write_scores(folder: Path, scores: dict[str, Any]) -> None:
    """Write ``metrics.json``."""
    write_text(folder / METRICS, json.dumps(scores, indent=2, allow_nan=False) + "\n")


def write_analysis(folder: Path, analysis: dict[str, Any]) -> None:
    """Write ``analysis.json``."""
    write_text(folder / ANALYSIS, json.dumps(analysis, allow_nan=False) + "\n")


def evaluated(folder: Path, scores: dict[str, Any], analysis: dict[str, Any]) -> Evaluated:
    """An evaluation in a folder, with the curves of the run whose folder that is in, if any."""
    run = next((parent for parent in folder.absolute().parents[:2] if (parent / "config.yaml").is_file()), None)
    if run is None:
        return Evaluated(folder.absolute().name, "", scores, analysis, {}, {})
    inside = folder.absolute().relative_to(run)
    name = run.name if str(inside) == "eval" else f"{run.name}/{inside}"
    tables = (read_table(run / f"{table}.csv") for table in ("metrics", "evaluations"))
    return Evaluated(name, read_config(run).experiment, scores, analysis, *tables)


def read_table(table: Path) -> Curves:
    """The curves of a run's table; none where it is missing.

    Raises:
        UserError: the table is damaged.
    """
    try:
        return read_curves(table) if table.is_file() else {}
    except (ValueError, LookupError, TypeError, csv.Error) as error:
        raise UserError(f"{table} is damaged; remove it, and the page is made without its curves") from error


def read_evaluated(folder: Path) -> Evaluated:
    """Read the evaluation of a run, or that in a folder which ``botvision eval`` wrote.

    Raises:
        UserError: there is none, it is of an earlier version, or its files are damaged.
    """
    folder = folder if (folder / METRICS).is_file() else folder / "eval"
    contents = []
    for name in (METRICS, ANALYSIS):
        try:
            content = json.loads(read_file(folder / name, LARGEST))
        except FileNotFoundError as error:
            raise UserError(
                f"{folder / name} is missing; give a run that was evaluated, or evaluate it again: botvision eval"
            ) from error
        except (ValueError, OSError, RecursionError) as error:
            raise UserError(f"{folder / name} is no readable JSON ({error}); evaluate the run again") from error
        if not isinstance(content, dict):
            raise UserError(f"{folder / name} should hold an object; evaluate the run again")
        contents.append(content)
    if not isinstance(contents[1].get("task"), str):
        raise UserError(f"{folder / ANALYSIS} does not say its task; evaluate the run again")
    return evaluated(folder, *contents)
