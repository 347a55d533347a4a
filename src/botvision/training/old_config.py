"""Experiments as data: four sections each, every field a flag of the command line with its unit and default."""

import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar, Literal, get_args, get_origin

from botvision.checkpoint import Kind
from botvision.classification import ClassifierConfig
from botvision.detection import DetectorConfig
from botvision.errors import UserError
from botvision.limits import ABOVE_0, AT_LEAST_0, BELOW_1, SHARE, check_limits

SGD_LIMITS = {"lr": ABOVE_0, "momentum": BELOW_1, "weight_decay": AT_LEAST_0, "clip_norm": ABOVE_0}
DETECTION_LIMITS = SGD_LIMITS | {"warmup_lr": AT_LEAST_0, "warmup_steps": AT_LEAST_0, "decay_at": SHARE}
CLASSIFICATION_LIMITS = SGD_LIMITS | {"warmup_epochs": AT_LEAST_0, "label_smoothing": BELOW_1, "ema_decay": BELOW_1}
MOST_MAGNITUDE = 30
"""Magnitudes of RandAugment are counted in 31 bins, as torchvision and the paper that it is from do."""


@dataclass(frozen=True)
class DataConfig:
    """What a detector is trained and evaluated on."""

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

    def __post_init__(self) -> None:
        """Refuse numbers that no image can be varied with."""
        check_limits(self, {"flip": SHARE})
        if not 0 < self.jitter[0] <= self.jitter[1] < math.inf:
            raise UserError(f"--jitter must be two factors above 0, the smaller one first, got {self.jitter}")


@dataclass(frozen=True)
class OptimizerConfig:
    """SGD for detection, and a learning rate that warms up and falls in steps.

    The defaults are those of the authors' public TPU detection code (github.com/tensorflow/tpu,
    models/official/detection).
    """

    reference_batch: ClassVar[int] = 64
    """Images in a batch for which learning rates are written down."""
    nesterov: ClassVar[bool] = False

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
        check_limits(self, DETECTION_LIMITS)


@dataclass(frozen=True)
class ClassificationData:
    """What a classifier is trained and evaluated on, and how the images are varied."""

    data: str | None = None
    """Folder with train/ and val/, in each a folder of images for every class; or shards, in a folder or at a URL."""
    train_split: str = "train"
    """Split to train on."""
    val_split: str = "val"
    """Split to evaluate on."""
    train_images: int | None = None
    """Train on the first so many images alone."""
    val_images: int | None = None
    """Evaluate on the first so many images alone."""
    crop_scale: tuple[float, float] = (0.08, 1.0)
    """Smallest and largest share of an image's area in a random crop (Szegedy et al. 2015)."""
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Smallest and largest width over height of a random crop."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    randaugment: tuple[int, int] | None = None
    """RandAugment's layers and magnitude, of 30, such as 2 10 (Cubuk et al. 2020); none leaves it out."""
    mixup: float = 0.0
    """Alpha of mixup (Zhang et al. 2018), 0 leaves it out; where cutmix is on too, each batch draws one of the two."""
    cutmix: float = 0.0
    """Alpha of cutmix (Yun et al. 2019), 0 leaves it out."""
    workers: int = 4
    """Processes that read and augment images; 0 does it in the training process."""

    def __post_init__(self) -> None:
        """Refuse numbers that no image can be varied with."""
        check_limits(self, {"flip": SHARE, "mixup": AT_LEAST_0, "cutmix": AT_LEAST_0})
        if not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise UserError(f"--crop-scale must be two shares up to 1, the smaller one first, got {self.crop_scale}")
        if not 0 < self.crop_ratio[0] <= self.crop_ratio[1] < math.inf:
            raise UserError(f"--crop-ratio must be two numbers above 0, the smaller first, got {self.crop_ratio}")
        if self.randaugment and (self.randaugment[0] < 1 or not 0 <= self.randaugment[1] <= MOST_MAGNITUDE):
            raise UserError(
                f"--randaugment must be at least 1 layer and a magnitude from 0 to {MOST_MAGNITUDE}, "
                f"got {self.randaugment}"
            )


@dataclass(frozen=True)
class ClassificationOptimizer:
    """SGD for classification, with a learning rate that warms up and falls as a cosine to 0."""

    reference_batch: ClassVar[int] = 256
    """Images in a batch for which learning rates are written down."""
    nesterov: ClassVar[bool] = True

    lr: float = 0.1
    """Learning rate for a batch of 256 images; another batch size scales it linearly."""
    warmup_epochs: float = 5
    """Passes over the training images during which the learning rate rises linearly from 0."""
    momentum: float = 0.9
    """Nesterov momentum of SGD."""
    weight_decay: float = 1e-4
    """On the weights of convolutions and linear layers alone, not on norms, biases and relative tables."""
    clip_norm: float | None = None
    """Largest norm of the whole gradient; none leaves it as it is."""
    label_smoothing: float = 0.0
    """Share of a label's weight that is spread over all classes."""
    ema_decay: float | None = None
    """Evaluate by an average of the weights that keeps this share of itself at a step, at first (1 + n) / (10 + n)."""

    def __post_init__(self) -> None:
        """Refuse numbers that nothing can be trained with."""
        check_limits(self, CLASSIFICATION_LIMITS)


@dataclass(frozen=True)
class RunConfig:
    """How long, how often, and where."""

    out: Path | None = None
    """Folder of the run; runs/<experiment> by default, with a number behind it where that is taken."""
    epochs: float = 12
    """Passes over the training images; where the experiment counts in steps, epochs given here are instead of them."""
    steps: int | None = None
    """Optimiser steps, instead of epochs."""
    batch_size: int = 64
    """Images in one optimiser step, over all devices."""
    images_per_device: int | None = None
    """Images that a device takes at once; fewer than its share of the batch accumulate gradients."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Arithmetic of the network; weights, losses and boxes stay in float32."""
    compile: bool = False
    """Compile the network with torch.compile: the first step takes minutes, the others less."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to run; auto takes every GPU there is, else the CPU."""
    threads: int | None = None
    """Processor threads of the network where it runs on a processor; PyTorch's own choice by default."""
    weights: Path | None = None
    """Start from these weights: a ResNet in torchvision's layout, a run or its checkpoint, or timm/NAME."""
    eval_every: int | None = None
    """Evaluate after so many steps, and at the end; by default once an epoch, at most 20 times a run."""
    save_every: int = 500
    """Write checkpoints/last.ckpt after so many steps."""
    log_every: int = 10
    """Write a line of metrics after so many steps."""
    seed: int = 0
    """Of everything drawn: the weights, the order of the images, their augmentation, anchors, dropout."""


@dataclass(frozen=True)
class DetectionExperiment:
    """Everything that a detection run is made of."""

    model: DetectorConfig = field(default_factory=DetectorConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    run: RunConfig = field(default_factory=RunConfig)


@dataclass(frozen=True)
class ClassificationExperiment:
    """Everything that a classification run is made of."""

    model: ClassifierConfig = field(default_factory=ClassifierConfig)
    data: ClassificationData = field(default_factory=ClassificationData)
    optimizer: ClassificationOptimizer = field(default_factory=ClassificationOptimizer)
    run: RunConfig = field(default_factory=RunConfig)


Experiment = DetectionExperiment | ClassificationExperiment

EXPERIMENT_KINDS: dict[Kind, type[Experiment]] = {
    "detection": DetectionExperiment,
    "classification": ClassificationExperiment,
}


def kind_of(experiment: Experiment) -> Kind:
    """What an experiment trains."""
    return next(kind for kind, made_of in EXPERIMENT_KINDS.items() if isinstance(experiment, made_of))


def at_least(least: int, flags: dict[str, int | None]) -> None:
    """Refuse what is below its least value; None, for not given, passes.

    Raises:
        UserError: naming the flag and what it has.
    """
    for flag, value in flags.items():
        if value is not None and value < least:
            raise UserError(f"{flag} must be at least {least}, got {value}")


def to_plain(experiment: Experiment) -> dict[str, Any]:
    """The experiment as its kind and dictionaries of numbers, texts and lists, for YAML."""
    return {"kind": kind_of(experiment), **plain(asdict(experiment))}


def plain(value: Any) -> Any:  # noqa: ANN401
    """A value with paths as texts and tuples as lists, all the way down."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return [plain(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value


def from_plain(content: dict[str, Any], source: Path) -> Experiment:
    """The experiment that :func:`to_plain` wrote; one without a kind is of detection, which there was first.

    Args:
        content: as read from YAML.
        source: the file, for error messages.

    Raises:
        UserError: an unknown kind, a section or field that no experiment has, or a value that the field cannot have.
    """
    kind = content.get("kind", "detection")
    if kind not in EXPERIMENT_KINDS:
        raise UserError(f"{source}: unknown kind {kind!r}; an experiment is of {' or '.join(EXPERIMENT_KINDS)}")
    known = {entry.name: entry.type for entry in fields(EXPERIMENT_KINDS[kind])}
    sections = {}
    for name, values in content.items():
        if name == "kind":
            continue
        if name not in known or not isinstance(values, dict):
            raise UserError(f"{source}: unknown section {name!r}; an experiment has {', '.join(known)}")
        sections[name] = section(known[name], values, source)
    return EXPERIMENT_KINDS[kind](**sections)


def section(kind: Any, values: dict[str, Any], source: Path) -> Any:  # noqa: ANN401
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
