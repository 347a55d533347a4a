"""Ways to run a trained backbone on images, beside timm's eager network, in interleaved runs.

The compiled one has its weights as constants ("freezing"), so that convolutions take them in the library's own layout,
and activations run inside the convolutions. Compiling takes a minute or two. The exported one is an ONNX file, folded
too, which onnxruntime computes on the processor.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich import box
from rich.table import Table
from torch import Tensor, nn
from torch._inductor import config as inductor_config

from botvision.benchmarks.implementations import can_compile
from botvision.benchmarks.timed_models import from_timm, timm_attention
from botvision.benchmarks.trial import Trial
from botvision.errors import UserError
from botvision.export import FORMATS, export_model
from botvision.export.sources import exportable_network, photographs
from botvision.models import Network, create_model, fold

Run = Callable[[Tensor], Tensor]
"""From images to logits."""
PEERS: dict[str, Callable[[int], nn.Module]] = {
    "resnet50": partial(from_timm, "resnet50"),
    "botnet50": timm_attention,
}
"""For each model that can be timed, the network of timm's parts that it is compared with, by the image's size."""

WAYS = ("timm", "ours", "folded", "folded, compiled", "onnxruntime")
"""timm's network as it comes, and ours: as it is in channels-last memory, folded, folded and compiled, and exported."""


@dataclass(frozen=True)
class WayTime:
    """A way to run a model; None for what was not measured, and ``note`` says why."""

    model: str
    way: str
    ms: float | None
    least_ms: float | None
    most_ms: float | None
    of_peer: float | None
    """Of the median of timm's network."""
    difference: float | None
    """Largest difference from our network as it is, as a share of its largest logit."""
    note: str


@dataclass
class Way:
    """A way to run a model, with the images in the memory format that it takes."""

    model: str
    name: str
    trial: Trial
    out: list[Tensor]
    """The logits, once they were computed; other weights give others."""


def bench_inference(
    models: list[str], size: int, batch: int, device: torch.device, repeats: int, say: Callable[[str], None]
) -> list[WayTime]:
    """Time each way of each model, in turns.

    Args:
        models: keys of :data:`PEERS`.
        size: height and width of the images, in pixels; a multiple of 32.
        batch: images at once.
        device: where to run.
        repeats: turns after one that warms up (and compiles); medians are reported.
        say: called with a line about what is being measured.
    """
    found = []
    for model in models:
        say(f"making and exporting {model}")
        found += ways(model, size, batch, device)
    with torch.no_grad():
        for way in found:
            say(f"first run, {way.model}, {way.name}")
            # PyTorch asks for this setting in two places, and the argument ``options`` of torch.compile reaches one.
            with inductor_config.patch(freezing=True):
                way.trial.attempt(way.trial.call)
        for turn in range(repeats):
            say(f"time, turn {turn + 1} of {repeats}")
            for way in found:
                way.trial.attempt(way.trial.measure_time)
    return [time_of(way, found) for way in found]


def ways(name: str, size: int, batch: int, device: torch.device) -> list[Way]:
    """The :data:`WAYS` of a model, ready to run."""
    torch.manual_seed(0)
    images = torch.randn(batch, 3, size, size, device=device)
    last = images.contiguous(memory_format=torch.channels_last)
    own = create_model(name, input_size=size).eval().to(device).to(memory_format=torch.channels_last)
    folded = fold(own)
    compiled: Run = torch.compile(folded, dynamic=False)
    runs: list[Run] = [PEERS[name](size).eval().to(device), own, folded, compiled]
    found = [way(name, title, run, images if run is runs[0] else last) for title, run in zip(WAYS, runs, strict=False)]
    if not can_compile(device):
        found[-1].trial.note = "there is no compiler here"
    try:
        found.append(way(name, WAYS[-1], in_onnxruntime(own, device), images))
    except UserError as error:
        found.append(way(name, WAYS[-1], own, images))
        found[-1].trial.note = str(error)
    return found


def in_onnxruntime(network: Network, device: torch.device) -> Run:
    """The network as an ONNX file that was compared with it, on the processor.

    Raises:
        UserError: the extra "onnx" is not installed, or another device.
    """
    if device.type != "cpu":
        raise UserError("onnxruntime is timed on a processor alone")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        export_model(exportable_network(network), "onnx", path, photographs([], None))
        run = FORMATS["onnx"].open(path)
    return lambda images: run(images)["logits"]


def way(model: str, name: str, network: Run, images: Tensor) -> Way:
    """A way whose logits are kept."""
    out: list[Tensor] = []

    def run() -> None:
        out[:] = [network(images)]

    return Way(model, name, Trial(run, images.device), out)


def time_of(way: Way, found: list[Way]) -> WayTime:
    """What was measured of one way."""
    same = {other.name: other for other in found if other.model == way.model}
    peer, own, ms = same[WAYS[0]].trial.ms(), same[WAYS[1]].out, way.trial.ms()
    difference = None
    if own and way.out and way.name != WAYS[0]:
        difference = ((way.out[0] - own[0]).abs().max() / own[0].abs().max()).item()
    least, most = way.trial.spread_ms() or (None, None)
    of_peer = ms / peer if ms and peer else None
    return WayTime(way.model, way.name, ms, least, most, of_peer, difference, way.trial.note)


def inference_table(times: list[WayTime]) -> Table:
    """A line for each way of each model."""
    table = Table("model", box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    for name in ("run as", "ms", "of timm", "difference"):
        table.add_column(name, justify="left" if name == "run as" else "right")
    for one in times:
        if one.ms is None:
            table.add_row(one.model, one.way, f"not measured: {one.note}", "", "")
            continue
        share = "" if one.of_peer is None else f"{one.of_peer:.2f}"
        difference = "" if one.difference is None else f"{one.difference:.0e}"
        table.add_row(one.model, one.way, f"{one.ms:.1f} ({one.least_ms:.1f}-{one.most_ms:.1f})", share, difference)
    return table
