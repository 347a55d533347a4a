"""`botvision bench`."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from rich.console import Console
from tyro.conf import Positional

from botvision.benchmark import bench_attention, timings_table
from botvision.commands.bench_data import run_bench_data
from botvision.errors import UserError
from botvision.flags import parse
from botvision.training.config import at_least
from botvision.training.processes import pick_device


@dataclass
class BenchArguments:
    """Time the attention layer beside its peers, in interleaved runs."""

    what: Positional[Literal["attention"]]
    """What to time."""
    sizes: tuple[str, ...] = ("14x14", "32x32", "64x64")
    """Maps, as HEIGHTxWIDTH."""
    batch: int = 1
    """Maps at once."""
    heads: int = 4
    """Attention heads."""
    head_width: int = 128
    """Width of a head."""
    repeats: int = 5
    """Turns of each way; medians are printed."""
    device: str = "auto"
    """auto, cpu or cuda."""
    json: bool = False
    """Print the timings as JSON."""


def bench(argv: Sequence[str]) -> int:
    """`botvision bench attention` and `botvision bench data`."""
    if argv[:1] == ["data"]:
        return run_bench_data(argv[1:])
    arguments = parse(BenchArguments, "bench", argv)
    counts = ("batch", "heads", "head_width", "repeats")
    at_least(1, {f"--{name.replace('_', '-')}": getattr(arguments, name) for name in counts})
    if not arguments.sizes:
        raise UserError("--sizes needs at least one map, such as 14x20")
    timings = bench_attention(
        [map_size(text) for text in arguments.sizes],
        batch=arguments.batch,
        heads=arguments.heads,
        head_width=arguments.head_width,
        repeats=arguments.repeats,
        device=pick_device(arguments.device),
    )
    if arguments.json:
        print(json.dumps([asdict(timing) for timing in timings]))
    else:
        Console().print(timings_table(timings))
    return 0


def map_size(text: str) -> tuple[int, int]:
    """(14, 20) of "14x20".

    Raises:
        UserError: not two positive numbers.
    """
    sides = text.split("x")
    if len(sides) != 2 or not all(side.isdigit() and int(side) for side in sides):
        raise UserError(f"--sizes has {text!r}, a map is HEIGHTxWIDTH, such as 14x20")
    return int(sides[0]), int(sides[1])
