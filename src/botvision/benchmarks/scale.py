"""What a training step costs on many processes: a model of it, from a measured step and the bandwidth between them.

A step of P processes is that of one, and what of the sum of the gradients is not hidden behind the backward pass:

    ring    = 2 (L - 1) / L * bytes / inside       a ring in each machine, of its L processes,
            + 2 (M - 1) / M * bytes / between      and rings between M machines, which share the machine's network
    waits   = norms * 2 * latency * log2(P)        the statistics of synchronised batch norms, which nothing hides
    step(P) = step(1) + waits + max(0, ring - overlap * backward)
"""

import math
import statistics
import time
from dataclasses import asdict, dataclass, replace
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from rich.table import Table
from torch import nn
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from botvision.benchmarks.trial import now
from botvision.models import create_model
from botvision.training.connection import leave

BACKWARD = 2 / 3
"""Share of the backward pass in a step: it has two products for each one of the forward pass."""
OVERLAP = 0.9
"""Share of the backward pass that DDP's buckets can be summed behind: the first bucket has to be full before."""


@dataclass(frozen=True)
class Step:
    """A training step of one process."""

    seconds: float
    images: int
    gradient_bytes: int
    norms: int
    """Batch norms whose statistics are synchronised."""


@dataclass(frozen=True)
class Network:
    """What connects the processes."""

    inside: float
    """Bytes a second between processes of a machine, in one direction."""
    between: float
    """Bytes a second that a machine sends to another one."""
    latency: float
    """Seconds that the smallest message takes between two processes, of one machine or of two."""
    per_machine: int
    """Processes on a machine."""


@dataclass(frozen=True)
class Scaled:
    """A step of several processes."""

    processes: int
    machines: int
    sum_seconds: float
    """To sum the gradients and the statistics."""
    step_seconds: float
    images_per_second: float
    efficiency: float
    """Images a second, over those of so many single processes."""


def scaled(step: Step, network: Network, processes: int) -> Scaled:
    """The step of so many processes by the model."""
    here = min(processes, network.per_machine)
    machines = math.ceil(processes / network.per_machine)
    ring = 2 * (here - 1) / here * step.gradient_bytes / network.inside
    ring += 2 * (machines - 1) / machines * step.gradient_bytes / network.between
    waits = step.norms * 2 * network.latency * math.log2(processes)
    hidden = OVERLAP * BACKWARD * step.seconds
    seconds = step.seconds + waits + max(0.0, ring - hidden)
    speed = processes * step.images / seconds
    return Scaled(processes, machines, ring + waits, seconds, speed, speed / (processes * step.images / step.seconds))


@dataclass(frozen=True)
class Work:
    """The step that is measured: of a classifier."""

    model: str
    size: int
    batch: int

    def build(self, device: torch.device) -> nn.Module:
        """The classifier, at random."""
        torch.manual_seed(0)
        return create_model(self.model, input_size=self.size).to(device).train()

    def images(self, device: torch.device) -> torch.Tensor:
        """(batch, 3, size, size) at random."""
        return torch.randn(self.batch, 3, self.size, self.size, device=device)


def step_of(work: Work, seconds: float) -> Step:
    """The step of one process that takes so long, with what it would send."""
    model = work.build(torch.device("meta"))
    gradient_bytes = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    norms = sum(isinstance(layer, nn.BatchNorm2d) for layer in model.modules())
    return Step(seconds, work.batch, gradient_bytes, norms)


def measure_step(work: Work, device: torch.device, repeats: int) -> Step:
    """The median step of one process."""
    return step_of(work, statistics.median(times_of_steps(work.build(device), work.images(device), repeats)))


def times_of_steps(model: nn.Module, images: torch.Tensor, repeats: int) -> list[float]:
    """Seconds of each of so many steps, after one that warms up."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9)
    labels = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    found = []
    for _ in range(repeats + 1):
        started = now(images.device)
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(now(images.device) - started)
    return found[1:]


@dataclass(frozen=True)
class Check:
    """Two processes on this machine's processor, measured and by the model."""

    one: Step
    bandwidth: float
    """Bytes a second, of a sum as large as the gradients."""
    predicted_seconds: float
    measured_seconds: float


def check_two(work: Work, repeats: int) -> Check:
    """Measure one and two processes of one thread each, connected by gloo, and compare with the model.

    The single process takes turns with a second one that computes the same without a connection: two processes share
    the memory and the caches of a machine, which is no matter of the network.
    """
    found = torch.zeros(3).share_memory_()
    with TemporaryDirectory() as folder:  # where they find each other
        spawn(measure_two, (f"file://{folder}/store", work, repeats, found), nprocs=2)
    alone, together, sum_seconds = found.tolist()
    one = replace(step_of(work, alone), norms=0)  # they are not synchronised here
    bandwidth = one.gradient_bytes / sum_seconds  # of two processes, the ring sends all bytes once
    network = Network(bandwidth, bandwidth, latency=0.0, per_machine=2)
    return Check(one, bandwidth, scaled(one, network, 2).step_seconds, together)


def measure_two(rank: int, meeting: str, work: Work, repeats: int, found: torch.Tensor) -> None:
    """One of two processes: seconds of a step without a connection, of one with it, and of the sum alone."""
    torch.set_num_threads(1)
    device = torch.device("cpu")
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    model, images = work.build(device), work.images(device)
    connected = DistributedDataParallel(work.build(device))
    alone, together = [], []
    for _ in range(repeats):  # in turns
        dist.barrier()
        alone += times_of_steps(model, images, 1)
        dist.barrier()
        together += times_of_steps(connected, images, 1)
    flat = torch.zeros(step_of(work, 0.0).gradient_bytes // 4)
    sums = []
    for _ in range(repeats + 1):
        dist.barrier()
        started = time.perf_counter()
        dist.all_reduce(flat)
        sums.append(time.perf_counter() - started)
    if rank == 0:
        medians = [statistics.median(times) for times in (alone, together, sums[1:])]
        found.copy_(torch.tensor(medians))
    del connected
    leave()


def scale_table(step: Step, rows: list[Scaled], check: Check | None) -> list[Table | str]:
    """What was measured, and the steps of one process, of two, of four ... by the model."""
    table = Table(title="A training step by the model")
    for name in ("processes", "machines", "sum ms", "step ms", "images/s", "efficiency"):
        table.add_column(name, justify="right")
    for row in rows:
        times = (f"{1e3 * row.sum_seconds:.1f}", f"{1e3 * row.step_seconds:.1f}")
        table.add_row(
            str(row.processes), str(row.machines), *times, f"{row.images_per_second:.0f}", f"{row.efficiency:.0%}"
        )
    gradients, speed = step.gradient_bytes / 1e6, step.images / step.seconds
    lines: list[Table | str] = [
        f"one process: {1e3 * step.seconds:.1f} ms for {step.images} images ({speed:.1f} images/s), "
        f"{gradients:.1f} MB of gradients, {step.norms} batch norms",
        table,
    ]
    if check:
        lines.append(
            f"two processes here, by gloo: {1e3 * check.measured_seconds:.1f} ms, by the model "
            f"{1e3 * check.predicted_seconds:.1f} ms; one {1e3 * check.one.seconds:.1f} ms, "
            f"{check.bandwidth / 1e9:.2f} GB/s"
        )
    return lines


def as_data(step: Step, network: Network, rows: list[Scaled], check: Check | None) -> dict[str, Any]:
    """Everything as JSON has it."""
    return {
        "step": asdict(step),
        "network": asdict(network),
        "scaled": [asdict(row) for row in rows],
        "check": None if check is None else asdict(check),
    }
