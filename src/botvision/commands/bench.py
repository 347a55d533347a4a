"""`botvision bench`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console
from tyro.conf import Positional

from botvision.benchmark import (
    WAYS,
    Setting,
    about,
    as_data,
    attention_table,
    bench_attention,
    header,
    notes,
    write_report,
)
from botvision.commands.bench_data import run_bench_data
from botvision.commands.report import stderr
from botvision.errors import UserError
from botvision.flags import parse
from botvision.models.catalogue import nearest
from botvision.training.config import at_least
from botvision.training.processes import pick_device


@dataclass
class BenchArguments:
    """Time and memory of the attention layer beside its peers, in interleaved runs."""

    what: Positional[Literal["attention"]]
    """What to measure; botvision bench data --help is about the input pipeline."""
    sizes: tuple[str, ...] = ("14x14", "32x32", "40x100", "64x64", "80x80")
    """Maps, as HEIGHTxWIDTH."""
    ways: tuple[str, ...] = tuple(WAYS)
    """What to compare: botvision; the definition with its whole matrix; the folded form; timm's BottleneckAttn;
    bottleneck-transformer-pytorch; FlexAttention; plain attention without positions."""
    batch: int = 1
    """Maps at once."""
    heads: int = 4
    """Attention heads."""
    head_width: int = 128
    """Width of a head."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of weights and maps."""
    repeats: int = 5
    """Turns of each way; medians are printed."""
    device: str = "auto"
    """auto, cpu or cuda."""
    threads: int | None = None
    """Of the processor; as many as PyTorch takes by default."""
    out: Path | None = None
    """Folder for attention.json and attention.png."""
    json: bool = False
    """Print JSON."""


def bench(argv: Sequence[str]) -> int:
    """`botvision bench attention` and `botvision bench data`."""
    if argv[:1] == ["data"]:
        return run_bench_data(argv[1:])
    arguments = parse(BenchArguments, "bench", argv)
    sizes, setting = check(arguments)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    facts = about(setting, list(arguments.ways))
    rows = bench_attention(
        sizes,
        list(arguments.ways),
        setting,
        arguments.repeats,
        lambda line: stderr().print(line, highlight=False, soft_wrap=True),
    )
    if arguments.out:
        write_report(arguments.out, facts, rows)
    if arguments.json:
        print(json.dumps(as_data(facts, rows)))
    else:
        console = Console(markup=False, highlight=False)
        console.print(header(facts), attention_table(facts, rows), *notes(rows), sep="\n")
    return 0


def check(arguments: BenchArguments) -> tuple[list[tuple[int, int]], Setting]:
    """The maps and the setting.

    Raises:
        UserError: flags that make no sense.
    """
    counts = ("batch", "heads", "head_width", "repeats", "threads")
    at_least(1, {f"--{name.replace('_', '-')}": getattr(arguments, name) for name in counts})
    if not arguments.sizes:
        raise UserError("--sizes needs at least one map, such as 14x20")
    if not arguments.ways:
        raise UserError(f"--ways needs at least one of {', '.join(WAYS)}")
    for way in arguments.ways:
        if way not in WAYS:
            raise UserError(f"--ways has {way!r}, the ways are {', '.join(WAYS)}{nearest(way, list(WAYS))}")
    dtype = getattr(torch, arguments.dtype)
    setting = Setting(arguments.batch, arguments.heads, arguments.head_width, dtype, pick_device(arguments.device))
    return [map_size(text) for text in arguments.sizes], setting


def map_size(text: str) -> tuple[int, int]:
    """(14, 20) of "14x20".

    Raises:
        UserError: not two positive numbers.
    """
    sides = text.split("x")
    if len(sides) != 2 or not all(side.isdigit() and int(side) for side in sides):
        raise UserError(f"--sizes has {text!r}, a map is HEIGHTxWIDTH, such as 14x20")
    return int(sides[0]), int(sides[1])
