"""Time and memory of the attention layer beside other implementations of it, in interleaved runs of one process.

Whole layers are compared, projections included. All have the same weights and the same channels-last input: none is
slower with it than with PyTorch's default layout, and ours and the stock kernel are faster.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from botvision.benchmarks.implementations import IMPLEMENTATIONS, OURS, Size
from botvision.benchmarks.peak_memory import freed_at_once
from botvision.benchmarks.trial import Trial
from botvision.errors import UserError
from botvision.layers import MHSA2d

CHECKED_SIZE = (20, 24)
"""Map on which every implementation is compared with Figure 4: oblong, and large enough for ours to take blocks."""
TOLERANCE = {torch.float32: 5e-3, torch.bfloat16: 1e-1, torch.float16: 2e-2}
"""Relative to the largest number. Wide enough for rounding (GPUs round float32 convolutions), and far too narrow for
another formula; the tests compare more closely."""


@dataclass(frozen=True)
class Setting:
    """What every implementation is given."""

    batch: int
    heads: int
    head_width: int
    dtype: torch.dtype
    device: torch.device

    def layer(self, size: Size) -> MHSA2d:
        """Our layer, at random, for a map of (H, W)."""
        return MHSA2d(self.heads * self.head_width, size, self.heads).to(self.device, self.dtype)

    def maps(self, size: Size) -> Tensor:
        """(B, C, H, W) at random, channels last."""
        shape = (self.batch, self.heads * self.head_width, *size)
        return torch.randn(shape, dtype=self.dtype, device=self.device).contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Row:
    """One implementation, on one map; None for what it cannot do, and ``note`` says why."""

    size: Size
    implementation: str
    inference_ms: float | None
    """Forward pass without a graph; median."""
    training_ms: float | None
    """Forward and backward pass, gradients of input and weights; median."""
    inference_mib: float | None
    """The most memory that the pass holds at once, beyond what was there before."""
    training_mib: float | None
    difference: float | None
    """From Figure 4 in float64, of the largest number: outputs and gradients of the input on a 20x24 map. None for
    attention without positions."""
    note: str


def bench_attention(
    sizes: list[Size], names: list[str], setting: Setting, repeats: int, say: Callable[[str], None]
) -> list[Row]:
    """Measure every implementation on every map, in turns, so that a busy moment of the machine meets all of them.

    Args:
        sizes: (H, W) of the maps.
        names: of :data:`~botvision.benchmarks.implementations.IMPLEMENTATIONS`; a peer that is not installed, or fails
            on a first small map, is left out.
        setting: the layer, its input, and where to run.
        repeats: turns; medians are reported.
        say: called with a line about what is left out and what is being measured.

    Raises:
        UserError: an implementation that computes something else than Figure 4.
    """
    missing = [name for name in names if not IMPLEMENTATIONS[name].is_installed()]
    for name in missing:
        peer = IMPLEMENTATIONS[name]
        say(f"{name} is left out: {peer.package} is not installed ({peer.source})")
    with freed_at_once():
        differences = {}
        for name in (name for name in names if name not in missing):
            try:
                differences[name] = check(name, setting)
            except RuntimeError as error:  # such as compiled code that asks for more than this GPU has
                if name == OURS:
                    raise
                say(f"{name} is left out: it fails here, {str(error).splitlines()[0]}")
        names = list(differences)
        memory = []
        for size in sizes:
            say(f"memory, {size[0]}x{size[1]}")
            memory.append(try_on_map(size, names, setting, Trial.measure_memory, 1))
    rows = []
    for size, peaks in zip(sizes, memory, strict=True):
        say(f"time, {size[0]}x{size[1]}")
        times = try_on_map(size, names, setting, Trial.measure_time, repeats)
        rows += [row(size, name, peaks[name], times[name], differences[name]) for name in names]
    return rows


def try_on_map(
    size: Size, names: list[str], setting: Setting, measure: Callable[[Trial], None], turns: int
) -> dict[str, tuple[Trial, Trial]]:
    """Measure inference and training of each implementation, in turns."""
    weights, x = setting.layer(size), setting.maps(size).requires_grad_()
    grad = torch.randn_like(x)
    pairs = {}
    for name in names:
        layer = IMPLEMENTATIONS[name].build(weights, size).to(x)
        pairs[name] = Trial(partial(infer, layer, x), x.device), Trial(partial(train, layer, x, grad), x.device)
    trials = [trial for pair in pairs.values() for trial in pair]
    for trial in trials:
        trial.attempt(trial.call)  # compiles, and warms caches up
    for _ in range(turns):
        for trial in trials:
            trial.attempt(partial(measure, trial))
    return pairs


def row(
    size: Size, name: str, memory: tuple[Trial, Trial], times: tuple[Trial, Trial], difference: float | None
) -> Row:
    """What the trials of one implementation found."""
    notes = {"inference": times[0].note or memory[0].note, "training": times[1].note or memory[1].note}
    note = ", ".join(f"no {what}: {why}" for what, why in notes.items() if why)
    return Row(size, name, times[0].ms(), times[1].ms(), memory[0].mib(), memory[1].mib(), difference, note)


def infer(layer: nn.Module, x: Tensor) -> None:
    """A forward pass without a graph."""
    with torch.no_grad():
        layer(x)


def train(layer: nn.Module, x: Tensor, grad: Tensor) -> None:
    """A forward and a backward pass; attention without positions leaves its tables unused."""
    torch.autograd.grad(layer(x), [x, *layer.parameters()], grad, allow_unused=True)


def check(name: str, setting: Setting) -> float | None:
    """How far an implementation is from Figure 4 in float64; None for one without positions.

    Raises:
        UserError: it computes something else.
    """
    if not IMPLEMENTATIONS[name].has_positions:
        return None
    weights, x = setting.layer(CHECKED_SIZE), setting.maps(CHECKED_SIZE)
    exact = copy.deepcopy(weights).double()
    wanted = results(IMPLEMENTATIONS["figure-4"].build(exact, CHECKED_SIZE).to(exact.qkv.weight), x.double())
    found = results(IMPLEMENTATIONS[name].build(weights, CHECKED_SIZE).to(x), x)
    worst = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, wanted, strict=False))
    if not worst <= TOLERANCE[setting.dtype]:
        raise UserError(f"{name} computes something else than Figure 4, {worst:.2g} away; leave it out")
    return worst


def results(layer: nn.Module, x: Tensor) -> list[Tensor]:
    """Output, and gradient of the input where there is a backward pass."""
    with torch.no_grad():
        out = layer(x)
    try:
        grad = torch.autograd.grad(layer(x.requires_grad_()).square().sum(), x)
    except NotImplementedError:
        return [out]
    return [out, *grad]
