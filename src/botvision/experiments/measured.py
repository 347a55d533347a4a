"""What was measured here for the rows of the paper: counted costs, and the scores of finished runs."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from botvision.errors import UserError
from botvision.experiments.paper import COSTS, FIGURES, PaperTable, Row
from botvision.tasks.registry import experiment_of
from botvision.training.config import ExperimentConfig
from botvision.training.run_folder import read_config, read_evaluation

logger = logging.getLogger("botvision")

NOT_COMPARED = {
    *("data", "workers", "follow_links"),
    *("out", "device", "strategy", "threads", "compile", "eval_every", "save_every", "log_every", "seed"),
}
"""Fields that change neither the length of a run nor what it learns; other data show in the number of steps."""


class FoundRun(NamedTuple):
    """A run folder that was evaluated."""

    folder: Path
    name: str
    """Of its experiment."""
    config: ExperimentConfig
    step: int
    """Of its last evaluation."""
    scores: Mapping[str, Any]
    """Of its last evaluation."""

    def figures(self, row: Row) -> dict[str, float]:
        """The figures of a row that it measured, in the paper's units."""
        found = {}
        for figure in row.published:
            kind, _, metric = figure.partition("_")
            value = self.scores.get(kind)
            value = value.get(metric) if metric and isinstance(value, dict) else value
            if isinstance(value, int | float):
                found[figure] = FIGURES[figure].scale * value
        return found


@dataclass(frozen=True)
class OtherRun:
    """A run of a row's experiment that does not count as a measurement of the row."""

    folder: Path
    changed: tuple[str, ...]
    """Fields with other values than the row's; none where only the number of steps differs."""
    step: int
    steps: int
    """Of a finished run of the row."""
    figures: Mapping[str, float]
    """What it measured nevertheless, at ``step``."""


@dataclass(frozen=True)
class MeasuredRow:
    """A row with what was measured."""

    name: str
    """With its table, such as "table4/botnet50_qk"."""
    row: Row
    measured: Mapping[str, float]
    """By names of ``FIGURES``, in their units; of several runs, which differ in the seed, the mean."""
    runs: tuple[Path, ...]
    """That the measured scores are of."""
    others: tuple[OtherRun, ...]

    @property
    def not_run(self) -> list[str]:
        """The figures that were not measured."""
        return [figure for figure in self.row.published if figure not in self.measured]


def find_runs(folder: Path) -> list[FoundRun]:
    """The evaluated runs in a folder, which may be a run itself; what cannot be read is logged and left out.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: should be a run, or a folder of runs")
    runs = []
    for config in sorted({*folder.glob("config.yaml"), *folder.glob("*/config.yaml")}):
        try:
            record, evaluation = read_config(config.parent), read_evaluation(config.parent)
            step = evaluation.get("step")
            if isinstance(step, int):
                runs.append(FoundRun(config.parent, record.experiment, experiment_of(record, config), step, evaluation))
        except UserError as error:
            logger.warning("left out: %s", error)
    return runs


def measure(table: PaperTable, runs: Iterable[FoundRun]) -> list[MeasuredRow]:
    """The rows of a table, with what was counted and what some runs measured.

    A run counts for every row that has its settings, whatever its name; it has to be evaluated after its last step.
    """
    runs = list(runs)
    return [measure_row(f"{table.key}/{name}", row, runs) for name, row in table.rows.items()]


def measure_row(name: str, row: Row, runs: Iterable[FoundRun]) -> MeasuredRow:
    """One row, with what was counted and what some runs measured."""
    counted = row.count() if any(figure in row.published for figure in COSTS) else {}
    measured = {figure: FIGURES[figure].scale * counted[figure] for figure in counted}
    own, others = [], []
    wanted = row.experiment and row.experiment.config
    for run in runs:
        if wanted is None or type(run.config) is not type(wanted):
            continue
        changed = changed_fields(run.config, wanted)
        if row.experiment and row.experiment.task != "detection":  # the paper says for detection what batch norm sees
            changed = tuple(field for field in changed if field != "images_per_device")
        if not changed and run.step == row.steps:
            own.append(run)
        elif run.name == name:
            others.append(OtherRun(run.folder, changed, run.step, row.steps, run.figures(row)))
    scores = [run.figures(row) for run in own]
    for figure in row.published:
        values = [found[figure] for found in scores if figure in found]
        if values:
            measured[figure] = fmean(values)
    return MeasuredRow(name, row, measured, tuple(run.folder for run in own), tuple(others))


def changed_fields(config: ExperimentConfig, wanted: ExperimentConfig) -> tuple[str, ...]:
    """Names of the fields in which a run differs from a row so that its scores are not the row's."""
    changed = []
    for section, fields in config:
        other = getattr(wanted, section)  # of another detector perhaps, with other fields
        for name, value in fields:
            same = hasattr(other, name) and value == getattr(other, name)
            if name == "weights":  # they can be from anywhere, but have to be there
                same = same or value is not None
            if not same and name not in NOT_COMPARED:
                changed.append(name)
    return tuple(changed)
