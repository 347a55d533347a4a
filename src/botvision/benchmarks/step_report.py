"""What the benchmark of models shows: a table, ratios beside published ones, and files that read back."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.table import Table

from botvision.benchmarks.attention_report import short
from botvision.benchmarks.model_step import ModelTime, StepReport
from botvision.errors import UserError
from botvision.files import read_file, write_text

NOT_MEASURED = "not measured"
MOST_APART = 1.3
"""How many times as fast a matrix product of one file can be as that of another one of the same machine."""
LARGEST_REPORT = 2**24
"""Bytes of a file of times."""


@dataclass(frozen=True)
class PublishedRatio:
    """How many times as long one model takes as another, as the paper prints it."""

    model: str
    size: int
    other: str
    other_size: int
    published: float
    source: str

    def measured(self, report: StepReport) -> float | None:
        """The same ratio here, image for image; None where one of the two has no time."""
        pair = report.time(self.model, self.size), report.time(self.other, self.other_size)
        times = [row.ms_per_image for row in pair if row]
        return times[0] / times[1] if len(times) == 2 and times[0] and times[1] else None

    def line(self, report: StepReport) -> str:
        """Ours beside the paper's."""
        ratio = self.measured(report)
        shown = NOT_MEASURED if ratio is None else f"{ratio:.2f}"
        pair = f"{self.model} at {self.size} / {self.other} at {self.other_size}"
        return f"{pair}: {shown} (paper, a training step on TPU-v3: {self.published:.2f}, {self.source})"


def header(report: StepReport) -> str:
    """What was measured on what, in three lines."""
    facts = report.conditions
    what = "inference" if facts.inference else "training step, forward and backward"
    packages = ", ".join(f"{name} {number}" for name, number in facts.versions.items())
    return (
        f"{facts.device}, {facts.threads} threads; {packages}\n"
        f"{what}, {facts.dtype}{', compiled' if facts.compiled else ''}; medians, in brackets smallest to largest\n"
        f"a large matrix product reaches {short(report.peak_gflops)} GFLOP/s"
    )


def step_table(report: StepReport) -> Table:
    """A line for each model: time, memory, multiply-adds, and the share of the measured peak."""
    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("model", overflow="fold")
    for name in ("size", "batch", "ms", "ms/image", "MiB", "G madds", "% peak"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in report.rows:
        table.add_row(row.model, str(row.size), *cells(row))
    return table


def cells(row: ModelTime) -> list[str]:
    """The numbers of a row as the table shows them."""
    madds = NOT_MEASURED if row.multiply_adds is None else f"{row.multiply_adds / 1e9:.2f}"
    memory = NOT_MEASURED if row.peak_mib is None else f"{row.peak_mib:.0f}"
    if row.ms is None or row.ms_per_image is None or row.of_peak is None:
        return [str(row.batch), NOT_MEASURED, NOT_MEASURED, memory, madds, NOT_MEASURED]
    ms = f"{row.ms:.0f} ({row.least_ms:.0f}-{row.most_ms:.0f})"
    return [str(row.batch), ms, f"{row.ms_per_image:.1f}", memory, madds, f"{100 * row.of_peak:.0f}"]


def notes(report: StepReport, batch: int) -> list[str]:
    """Why numbers are missing, and which batches are smaller than the one asked for."""
    found = [f"{row.model} at {row.size}: {row.note}" for row in report.rows if row.note]
    smaller = [f"{row.model} at {row.size}" for row in report.rows if row.batch < batch and not row.note]
    if smaller:
        found.append(f"smaller batches, the largest powers of two that fit in memory: {', '.join(smaller)}")
    return found


def write_times(report: StepReport, file: Path) -> None:
    """Write the report as JSON."""
    write_text(file, json.dumps(report.plain(), indent=1) + "\n")


def read_times(files: Sequence[Path]) -> StepReport:
    """The rows of several files as one report; of a model and size that are in two, the last one counts.

    Raises:
        UserError: a file that ``botvision bench step --out`` has not written, or two of different conditions
            or machines.
    """
    reports = [read_report(file) for file in files]
    peaks = sorted((report.peak_gflops, file) for file, report in zip(files, reports, strict=True))
    if peaks[-1][0] > MOST_APART * peaks[0][0]:
        raise UserError(
            f"{peaks[0][1]} was measured on another machine than {peaks[-1][1]}, or beside other work: a large matrix "
            f"product reached {short(peaks[0][0])} GFLOP/s, and {short(peaks[-1][0])} there"
        )
    rows: dict[tuple[str, int], ModelTime] = {}
    for file, report in zip(files, reports, strict=True):
        if report.conditions != reports[0].conditions:
            raise UserError(f"{file} was measured otherwise than {files[0]}: {difference(report, reports[0])}")
        rows |= {(row.model, row.size): row for row in report.rows}
    return reports[0].replace(rows=tuple(rows.values()))


def read_report(file: Path) -> StepReport:
    """The report in a file; errors as in :func:`read_times`."""
    try:
        return StepReport(**json.loads(read_file(file, LARGEST_REPORT)))
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{file} has no times that botvision bench step --out wrote") from error


def difference(report: StepReport, other: StepReport) -> str:
    """The first condition in which two reports differ."""
    pairs = zip(report.conditions, other.conditions, strict=True)
    return next(f"{name} {value} against {second}" for (name, value), (_, second) in pairs if value != second)
