"""An experiment as data: four sections, each field a flag of the command line with its unit and default."""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin

from botvision.detection import DetectorConfig
from botvision.errors import UserError
from botvision.limits import ABOVE_0, AT_LEAST_0, BELOW_1, SHARE, check_limits

OPTIMIZER_LIMITS = {
    "lr": ABOVE_0,
    "warmup_lr": AT_LEAST_0,
    "warmup_steps": AT_LEAST_0,
    "decay_at": SHARE,
    "momentum": BELOW_1,
    "weight_decay": AT_LEAST_0,
    "clip_norm": ABOVE_0,
}


@dataclass(frozen=True)
class DataConfig:
    """What is trained and evaluated on."""

    data: Path | None = None
    """Folder in COCO's layout: annotations/instances_train2017.json, train2017/, and the same for val."""
    train_split: str = "train"
    """Split to train on."""
    val_split: str = "val"
    """Split to evaluate on."""
    train_images: int | None = None
    """Train on the first so many images alone."""
    val_images: int | None = None
    """Evaluate on the first so many images alone."""
    jitter: tuple[float, float] = (0.8, 1.25)
    """Smallest and largest random factor on an image that just fits the input (paper, Section 4.2)."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    workers: int = 4
    """Processes that read and augment images; 0 does it in the training process."""


@dataclass(frozen=True)
class OptimizerConfig:
    """SGD, and a learning rate that warms up and falls in steps.

    The defaults are those of the authors' public TPU detection code (github.com/tensorflow/tpu,
    models/official/detection).
    """

    lr: float = 0.08
    """Learning rate for a batch of 64 images; another batch size scales it linearly."""
    warmup_lr: float = 0.0067
    """Learning rate of the first step, for a batch of 64 images."""
    warmup_steps: int = 500
    """Steps over which the learning rate rises linearly."""
    decay_at: tuple[float, ...] = (2 / 3, 8 / 9)
    """Shares of the run after which the learning rate is divided by 10."""
    momentum: float = 0.9
    """Momentum of SGD."""
    weight_decay: float = 1e-4
    """On the weights of convolutions and linear layers alone, not on norms, biases and relative tables."""
    clip_norm: float | None = None
    """Largest norm of the whole gradient; none leaves it as it is."""

    def __post_init__(self) -> None:
        """Refuse numbers that nothing can be trained with."""
        check_limits(self, OPTIMIZER_LIMITS)


@dataclass(frozen=True)
class RunConfig:
    """How long, how often, and where."""

    out: Path | None = None
    """Folder of the run; runs/<experiment> by default, with a number behind it where that is taken."""
    epochs: float = 12
    """Passes over the training images: 12 is the 1x schedule, 24 is 2x, 36 is 3x, 72 is 6x."""
    steps: int | None = None
    """Optimiser steps, instead of epochs."""
    batch_size: int = 64
    """Images in one optimiser step, over all devices."""
    images_per_device: int | None = None
    """Images that a device takes at once; fewer than its share of the batch accumulate gradients."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Arithmetic of the network; weights, losses and boxes stay in float32."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to run; auto takes every GPU there is, else the CPU."""
    threads: int | None = None
    """Processor threads of the network where it runs on a processor; PyTorch's own choice by default."""
    weights: Path | None = None
    """Start from these weights: an ImageNet ResNet in torchvision's layout, or a whole detector."""
    eval_every: int | None = None
    """Evaluate after so many steps, and at the end; by default once an epoch, at most 20 times a run."""
    save_every: int = 500
    """Write checkpoints/last.ckpt after so many steps."""
    log_every: int = 10
    """Write a line of metrics after so many steps."""
    seed: int = 0
    """Of the weights, the order of the images, the augmentation and the sampling of anchors."""


@dataclass(frozen=True)
class DetectionExperiment:
    """Everything that a detection run is made of."""

    model: DetectorConfig = field(default_factory=DetectorConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    run: RunConfig = field(default_factory=RunConfig)


def at_least(least: int, flags: dict[str, int | None]) -> None:
    """Refuse what is below its least value; None, for not given, passes.

    Raises:
        UserError: naming the flag and what it has.
    """
    for flag, value in flags.items():
        if value is not None and value < least:
            raise UserError(f"{flag} must be at least {least}, got {value}")


SECTIONS = {"model": DetectorConfig, "data": DataConfig, "optimizer": OptimizerConfig, "run": RunConfig}


def to_plain(experiment: DetectionExperiment) -> dict[str, Any]:
    """The experiment as dictionaries of numbers, texts and lists, for YAML and checkpoints."""
    return plain(asdict(experiment))


def plain(value: Any) -> Any:  # noqa: ANN401
    """A value with paths as texts and tuples as lists, all the way down."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return [plain(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value


def from_plain(content: dict[str, Any], source: Path) -> DetectionExperiment:
    """The experiment that :func:`to_plain` wrote.

    Args:
        content: as read from YAML.
        source: the file, for error messages.

    Raises:
        UserError: a section or field that no experiment has, or a value that the field cannot have.
    """
    sections = {}
    for name, values in content.items():
        if name not in SECTIONS or not isinstance(values, dict):
            raise UserError(f"{source}: unknown section {name!r}; an experiment has {', '.join(SECTIONS)}")
        sections[name] = section(SECTIONS[name], values, source)
    return DetectionExperiment(**sections)


def section(kind: type, values: dict[str, Any], source: Path) -> Any:  # noqa: ANN401
    """One section from plain values: lists become tuples, texts become paths where the field holds a path."""
    known = {entry.name: entry for entry in fields(kind)}
    for name in values:
        if name not in known:
            raise UserError(f"{source}: unknown field {name!r} of {kind.__name__}")
    ready: dict[str, Any] = {}
    for name, value in values.items():
        holds_path = value is not None and "Path" in str(known[name].type)
        ready[name] = Path(value) if holds_path else tuple(value) if isinstance(value, list) else value
        if not fits(ready[name], known[name].type):
            raise UserError(f"{source}: {name} of {kind.__name__} cannot be {value!r}")
    try:
        return kind(**ready)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error


def fits(value: Any, kind: Any) -> bool:  # noqa: ANN401
    """Whether a value is of the type of a field of the sections above."""
    inner = get_args(kind)
    if get_origin(kind) is Literal:
        return value in inner
    if get_origin(kind) is UnionType:
        return any(fits(value, one) for one in inner)
    if get_origin(kind) is tuple:
        kinds = inner[:1] * len(value) if Ellipsis in inner and isinstance(value, tuple) else inner
        return isinstance(value, tuple) and len(value) == len(kinds) and all(map(fits, value, kinds))
    if kind is float:
        return type(value) in (int, float)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
