"""`botvision bench data`."""

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from botvision.benchmark.data import BATCH, bench_data, draw_throughput, drawn_images, throughput_table
from botvision.errors import UserError
from botvision.flags import parse
from botvision.training.config import at_least


@dataclass
class BenchDataArguments:
    """Time the input pipeline of classification beside torchvision's, in interleaved runs."""

    data: Path | None = None
    """Folder of images, one folder a class; drawn ones by default."""
    images: int = 640
    """Images in a turn, rounded down to whole batches of 32."""
    size: int = 224
    """Height and width of what comes out, in pixels."""
    workers: int = 0
    """Processes that read; 0 reads in one process."""
    repeats: int = 5
    """Turns of each pipeline; medians are printed."""
    out: Path | None = None
    """Picture to draw, such as data.png."""
    json: bool = False
    """Print the throughputs as JSON."""


def run_bench_data(argv: Sequence[str]) -> int:
    """`botvision bench data`."""
    arguments = parse(BenchDataArguments, "bench data", argv)
    at_least(BATCH, {"--images": arguments.images})
    at_least(1, {"--size": arguments.size, "--repeats": arguments.repeats})
    at_least(0, {"--workers": arguments.workers})
    if arguments.data and not arguments.data.is_dir():
        raise UserError(f"--data {arguments.data}: no such folder; give one of images, one folder a class")
    with nullcontext(arguments.data) if arguments.data else drawn_images() as folder:
        found = bench_data(
            folder,
            size=arguments.size,
            images=arguments.images,
            workers=arguments.workers,
            repeats=arguments.repeats,
        )
    if arguments.out:
        draw_throughput(found, arguments.out)
    if arguments.json:
        print(json.dumps([asdict(one) for one in found]))
    else:
        Console().print(throughput_table(found))
    return 0
