"""What the benchmark of attention shows: a table, a picture, and JSON."""

import json
import platform
from dataclasses import asdict
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from botvision.benchmarks.attention_layer import Row, Setting
from botvision.benchmarks.implementations import IMPLEMENTATIONS, can_compile
from botvision.files import whole_file, write_text
from botvision.version import __version__


def about(setting: Setting, names: list[str]) -> dict[str, Any]:
    """What was measured on what, with the version of every installed package that an implementation comes from."""
    packages = [IMPLEMENTATIONS[name].package for name in names if IMPLEMENTATIONS[name].is_installed()]
    others = {package: version(package) for package in packages if package != "torch"}
    facts = {
        "device": device_name(setting.device),
        "threads": torch.get_num_threads(),
        "dtype": str(setting.dtype).removeprefix("torch."),
        "batch": setting.batch,
        "heads": setting.heads,
        "head_width": setting.head_width,
        "versions": {"botvision": __version__, "torch": str(torch.__version__), **others},  # torch's names its CUDA
    }
    if "flex" in names:
        facts["flex"] = "compiled" if can_compile(setting.device) else "not compiled"
    return facts


def device_name(device: torch.device) -> str:
    """The name that its maker gave it; with the family and model of a processor, whose name can be that of many."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    processors = Path("/proc/cpuinfo")
    lines = processors.read_text().splitlines() if processors.is_file() else []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}
    if "model name" not in facts:
        return platform.processor() or platform.machine()
    kind = [f"{key} {facts[key]}" for key in ("cpu family", "model") if key in facts]
    return f"{facts['model name']} ({', '.join(kind)})" if kind else facts["model name"]


def header(facts: dict[str, Any]) -> str:
    """The facts in three lines."""
    packages = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    flex = f"; FlexAttention {facts['flex']}" if "flex" in facts else ""
    return (
        f"{facts['device']}, {facts['threads']} threads; {packages}\n"
        f"batch {facts['batch']}, {facts['heads']} heads of {facts['head_width']}, {facts['dtype']}{flex}\n"
        "medians; in brackets: botvision's divided by this row's"
    )


def attention_table(facts: dict[str, Any], rows: list[Row]) -> Table:
    """Times and memory, each with the ratio of ours to it; memory of a training step also for each position."""
    table = Table("map", "implementation", box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    for name in ("infer ms", "train ms", "infer MiB", "train MiB", "KiB/pos"):
        table.add_column(name, justify="right", no_wrap=True)
    fields = ("inference_ms", "training_ms", "inference_mib", "training_mib")
    ours = {row.size: row for row in rows if row.implementation == "botvision"}
    for size, group in groupby(rows, key=lambda row: row.size):
        table.add_section()
        for index, row in enumerate(group):
            ratios = [with_ratio(getattr(row, field), getattr(ours.get(size, row), field)) for field in fields]
            positions = size[0] * size[1] * facts["batch"]
            per_position = "-" if row.training_mib is None else short(row.training_mib * 1024 / positions)
            table.add_row("" if index else size_name(row), row.implementation, *ratios, per_position)
    return table


def with_ratio(number: float | None, ours: float | None) -> str:
    """A number, and ours divided by it."""
    if number is None:
        return "-"
    return short(number) + (f" ({ours / number:.2f})" if ours is not None and number else "")


def short(number: float) -> str:
    """Three digits, or all those of a large number."""
    return f"{number:.3g}" if number < 100 else f"{number:.0f}"


def size_name(row: Row) -> str:
    """14x14."""
    return f"{row.size[0]}x{row.size[1]}"


def notes(rows: list[Row]) -> list[str]:
    """Why numbers are missing."""
    maps: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.note:
            maps.setdefault((row.implementation, row.note), []).append(size_name(row))
    return [f"{name} on {', '.join(sizes)}: {note}" for (name, note), sizes in maps.items()]


def write_report(out: Path, facts: dict[str, Any], rows: list[Row]) -> None:
    """Write ``attention.json`` and ``attention.png`` into a folder."""
    write_text(out / "attention.json", json.dumps(as_data(facts, rows), indent=1) + "\n")
    with whole_file(out / "attention.png") as temporary:
        draw(facts, rows).savefig(temporary, dpi=120)


def as_data(facts: dict[str, Any], rows: list[Row]) -> dict[str, Any]:
    """The report as JSON has it."""
    return {**facts, "rows": [asdict(row) for row in rows]}


def draw(facts: dict[str, Any], rows: list[Row]) -> Figure:
    """Times and memory over the maps, a line for each implementation."""
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    figure.suptitle(f"Attention with 2-D relative positions, whole layer: {facts['device']}, {facts['dtype']}")
    sizes = list(dict.fromkeys(size_name(row) for row in rows))
    panels = {"inference_ms": "inference (ms)", "training_ms": "training step (ms)"}
    panels["training_mib"] = "peak memory of a training step (MiB)"
    for axes, (field, title) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for number, name in enumerate(dict.fromkeys(row.implementation for row in rows)):
            points = [(size_name(row), getattr(row, field)) for row in rows if row.implementation == name]
            places = [(sizes.index(size), value) for size, value in points if value]
            axes.plot(*zip(*places, strict=True) if places else ((), ()), "o-", color=f"C{number}", label=name)
        axes.set_xticks(range(len(sizes)), sizes)
        axes.set_yscale("log")
        axes.set_title(title, fontsize="medium")
        axes.grid(axis="y", alpha=0.3)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right center")
    return figure
