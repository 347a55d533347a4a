"""Time and memory of a training step (forward and backward pass) or of a prediction of whole models, in turns.

All have random weights, the same kind of input, and channels-last memory unless their entry in
:data:`~botvision.benchmarks.timed_models.MODELS` names another format.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib.metadata import version

import torch
from torch import Tensor, nn

from botvision.benchmarks.apart import Ended, answers_apart
from botvision.benchmarks.attention_report import device_name
from botvision.benchmarks.needed_memory import needed_memory
from botvision.benchmarks.operators import OperatorTime, profile
from botvision.benchmarks.peak_memory import freed_at_once
from botvision.benchmarks.timed_models import MODELS, PEER, multiply_adds
from botvision.benchmarks.trial import OUT_OF_MEMORY, Trial, arithmetic, now
from botvision.configuration import Config
from botvision.training.memory import GIB, bytes_of, free_memory
from botvision.version import __version__

CLASSES = 1000
"""Of every model."""
MARGIN = 1.1
"""What a step takes over its tensors, for the buffers of the libraries and the pieces between them."""
PRODUCT = {"cpu": 4096, "cuda": 8192}
"""Rows and columns of the matrices whose product is the measured peak of a device."""
PASSES = 3
"""Forward passes that a training step is worth: the backward pass makes two products for each of the forward one."""


class Conditions(Config):
    """What has to be the same for two times to be compared."""

    device: str
    threads: int
    """Of the processor."""
    dtype: str
    """float32, or bfloat16 by autocast."""
    inference: bool
    """A forward pass in evaluation mode instead of a training step."""
    compiled: bool
    versions: dict[str, str]


class ModelTime(Config):
    """One model at one size; None for what was not measured, and ``note`` says why."""

    model: str
    size: int
    """Image height and width, in pixels."""
    batch: int
    """Images at once: those asked for, or the largest power of two that fits."""
    ms: float | None
    """Of a batch; median."""
    least_ms: float | None
    most_ms: float | None
    peak_mib: float | None
    """The most memory that a step holds at once, weights included."""
    multiply_adds: int | None
    """Of one image, forward."""
    of_peak: float | None
    """Multiply-adds per second, of those of a large matrix product; a training step counts three forward passes."""
    note: str

    @property
    def ms_per_image(self) -> float | None:
        """The step, divided by its images."""
        return None if self.ms is None else self.ms / self.batch


class StepReport(Config):
    """What the benchmark found."""

    conditions: Conditions
    peak_gflops: float
    """Of a large matrix product of the same dtype; a multiply-add is two of them."""
    rows: tuple[ModelTime, ...]

    def time(self, model: str, size: int) -> ModelTime | None:
        """The row of a model at a size, if there is one with a time."""
        return next((row for row in self.rows if (row.model, row.size) == (model, size) and row.ms is not None), None)


@dataclass(frozen=True)
class ModelSetting:
    """What every model is given."""

    batch: int
    device: torch.device
    dtype: torch.dtype = torch.float32
    compile: bool = False
    inference: bool = False

    def conditions(self) -> Conditions:
        """With the versions of what computes."""
        timm = {"timm": version("timm")} if MODELS[PEER].is_installed() else {}
        return Conditions(
            device=device_name(self.device),
            threads=torch.get_num_threads(),
            dtype=str(self.dtype).removeprefix("torch."),
            inference=self.inference,
            compiled=self.compile,
            versions={"botvision": __version__, "torch": str(torch.__version__), **timm},
        )


@dataclass
class Candidate:
    """A model, ready to run unless ``trial.note`` says why it is not."""

    name: str
    size: int
    batch: int
    trial: Trial
    model: nn.Module = field(default_factory=nn.Identity)

    @cached_property
    def multiply_adds(self) -> int | None:
        """Of one image; None where the package is missing. Counting builds the model."""
        return multiply_adds(self.name, self.size) if MODELS[self.name].is_installed() else None

    def row(self, setting: ModelSetting, peak: float) -> ModelTime:
        """What was found."""
        ms, spread, mib = self.trial.ms(), self.trial.spread_ms() or (None, None), self.trial.mib()
        madds, passes = self.multiply_adds, 1 if setting.inference else PASSES
        weights = sum(map(bytes_of, self.model.parameters())) / 2**20
        return ModelTime(
            model=self.name,
            size=self.size,
            batch=self.batch,
            ms=ms,
            least_ms=spread[0],
            most_ms=spread[1],
            peak_mib=None if mib is None else mib + weights,
            multiply_adds=madds,
            of_peak=None if ms is None or madds is None else 2 * madds * passes * self.batch / (ms / 1e3) / peak,
            note=self.trial.note,
        )


def bench_models(
    subjects: list[tuple[str, int]],
    setting: ModelSetting,
    repeats: int,
    say: Callable[[str], None],
    keep: Callable[[StepReport], object] = lambda report: None,
) -> StepReport:
    """Time models in turns, so that a busy moment of the machine meets all of them.

    In each turn a model runs twice, and the second run is timed: a step after another step of the same model.

    Args:
        subjects: names of :data:`~botvision.benchmarks.timed_models.MODELS`, each with its image size.
        setting: images at once, and where to run. A batch that does not fit is halved until it does.
        repeats: turns after those that warm up and measure the memory; medians are reported.
        say: called with a line about what is being measured.
        keep: called after each turn with the medians so far, so that a benchmark that is stopped loses one turn.
    """
    candidates = [prepare(name, size, setting) for name, size in subjects]
    measure_memory(candidates, setting, say)
    peak = peak_rate(setting)
    for turn in range(repeats):
        say(f"time, turn {turn + 1} of {repeats}")
        for one in candidates:
            # Once without timing it, as what ran before leaves memory and oneDNN's 1024 kept kernels to others.
            one.trial.attempt(one.trial.call)
            one.trial.attempt(one.trial.measure_time)
        rows = tuple(one.row(setting, peak) for one in candidates)
        report = StepReport(conditions=setting.conditions(), peak_gflops=peak / 1e9, rows=rows)
        keep(report)
    return report


def profile_models(subjects: list[tuple[str, int]], setting: ModelSetting) -> dict[str, list[OperatorTime]]:
    """The operators that a step of each model spends its time in, none where it did not run."""
    found = {}
    for name, size in subjects:
        one = prepare(name, size, setting)
        fit(one, setting)
        warm_up(one, setting)
        title = f"{name} at {size}, batch {one.batch}: {one.trial.note or 'operators'}"
        found[title] = [] if one.trial.note else profile(one.trial.call, setting.device)
    return found


def prepare(name: str, size: int, setting: ModelSetting) -> Candidate:
    """A model on the device, unless its package is missing."""
    candidate = Candidate(name, size, setting.batch, Trial(lambda: None, setting.device))
    if not MODELS[name].is_installed():
        candidate.trial.note = f"{MODELS[name].package} is not installed (pip install 'botvision[bench]')"
        return candidate
    model = MODELS[name].build(size).to(setting.device).to(memory_format=MODELS[name].memory_format)
    candidate.model = model.train(not setting.inference)
    if setting.compile:
        candidate.model.compile(dynamic=False)
    return candidate


def measure_memory(candidates: Sequence[Candidate], setting: ModelSetting, say: Callable[[str], None]) -> None:
    """Measure the memory of every candidate that fits, and leave it warm, for its time to be measured.

    A processor's memory can only be measured where the C library gives freed memory back at once, after which it keeps
    memory in another way, and steps in the same process take longer. So that is done in a process of its own.
    """
    if setting.device.type == "cuda":
        for one in candidates:
            say(f"memory, {one.name} at {one.size}")
            warm_up(one, setting)
            one.trial.attempt(one.trial.measure_memory)
        return
    for one in candidates:
        fit(one, setting)
    running = [one for one in candidates if not one.trial.note]
    call = partial(step_memory, setting=setting, threads=torch.get_num_threads())
    jobs = [(one.name, one.size, one.batch) for one in running]
    with closing(answers_apart(call, jobs)) as answers:
        for one in running:
            say(f"memory, {one.name} at {one.size}")
            answer = next(answers)
            if isinstance(answer, Ended):
                why = f"its process ended with status {answer.status}"
                one.trial.note = OUT_OF_MEMORY if answer.was_killed else why
            else:
                one.batch, one.trial.peak, one.trial.note = answer
    for one in running:
        warm_up(one, setting)


def step_memory(job: tuple[str, int, int], setting: ModelSetting, threads: int) -> tuple[int, int | None, str]:
    """The batch that a step of a model ran with, the bytes of its peak, and why there are none.

    Args:
        job: name, size and images at once.
        setting: for all jobs.
        threads: of PyTorch, as in the process that measures times.
    """
    name, size, batch = job
    torch.set_num_threads(threads)
    with freed_at_once():
        one = prepare(name, size, setting)
        one.batch = batch
        warm_up(one, setting)
        one.trial.attempt(one.trial.measure_memory)
    return one.batch, one.trial.peak, one.trial.note


def fit(one: Candidate, setting: ModelSetting) -> None:
    """On a processor: take the largest batch that fits in memory, by what it would take."""
    free = free_memory() if setting.device.type == "cpu" else None
    if free is None or one.trial.note:
        return
    free -= sum(map(bytes_of, one.model.parameters()))  # the process that measures memory has weights of its own
    while (needed := needed_by(one.name, one.size, one.batch, setting)) > free and one.batch > 1:
        one.batch = power_of_two_below(one.batch)
    if needed > free:
        one.trial.note = f"does not fit in memory: one image needs {needed / GIB:.1f} GiB, {free / GIB:.1f} are free"


def warm_up(one: Candidate, setting: ModelSetting) -> None:
    """Run once; where the device is out of memory, with smaller and smaller batches."""
    while not one.trial.note:
        one.trial.call = run_of(one.model, images(one.name, one.size, one.batch, setting.device), setting)
        one.trial.attempt(one.trial.call)
        if one.trial.note != OUT_OF_MEMORY or one.batch == 1:
            return
        one.batch, one.trial.note = power_of_two_below(one.batch), ""


def needed_by(name: str, size: int, batch: int, setting: ModelSetting) -> float:
    """Bytes that a step or a prediction will take beside the weights, without running it."""
    model = MODELS[name].on_meta(size).train(not setting.inference)
    return MARGIN * needed_memory(run_of(model, images(name, size, batch, torch.device("meta")), setting))


def power_of_two_below(number: int) -> int:
    """The largest power of two below a number of at least 2."""
    return 2 ** ((number - 1).bit_length() - 1)


def images(name: str, size: int, batch: int, device: torch.device) -> Tensor:
    """Random images for a model: (batch, 3, size, size)."""
    return torch.randn(batch, 3, size, size, device=device).contiguous(memory_format=MODELS[name].memory_format)


def run_of(model: nn.Module, x: Tensor, setting: ModelSetting) -> Callable[[], None]:
    """A step of a model on images, or a prediction."""
    if setting.inference:
        return partial(predict, model, x, setting)
    return partial(train, model, x, torch.randn(len(x), CLASSES, device=x.device) / len(x), setting)


def predict(model: nn.Module, x: Tensor, setting: ModelSetting) -> None:
    """A forward pass without a graph."""
    with torch.inference_mode(), arithmetic(setting.device, setting.dtype):
        model(x)


def train(model: nn.Module, x: Tensor, grad: Tensor, setting: ModelSetting) -> None:
    """A forward and a backward pass, to the gradients of all weights."""
    with arithmetic(setting.device, setting.dtype):
        out = model(x)
    torch.autograd.grad(out, list(model.parameters()), grad.to(out.dtype))


def peak_rate(setting: ModelSetting) -> float:
    """Operations per second of a large product on the device, two a multiply-add.

    The faster of a matrix product and a 1x1 convolution: PyTorch takes other libraries for them, and on a GPU float32
    is rounded in convolutions.
    """
    side = PRODUCT[setting.device.type]
    a, b = torch.randn(2, side, side, dtype=setting.dtype, device=setting.device)
    pixels = a.view(1, 64, side // 64, side).permute(0, 3, 1, 2)
    calls = (lambda: a @ b, lambda: torch.nn.functional.conv2d(pixels, b[:, :, None, None]))
    seconds = []
    with torch.inference_mode():
        for call in calls:
            call()
            for _ in range(3):
                started = now(setting.device)
                call()
                seconds.append(now(setting.device) - started)
    return 2 * side**3 / min(seconds)
