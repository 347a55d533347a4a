"""The settings that every run has, whatever the task."""

import math
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from botvision.configuration import (
    LARGEST_COUNT,
    Config,
    Count,
    CountOrZero,
    FieldError,
    NotNegative,
    Positive,
    Share,
    ShareBelow1,
)

SEEDS = 2**32
"""NumPy's generators take seeds below this."""


class RunConfig(Config):
    """How long, how often, and where."""

    out: Path | None = None
    """Folder of the run, which goes on where it is there already; by default runs/<experiment>, with a number behind it
    where that is a run with other settings."""
    epochs: Positive = 12
    """Passes over the training images; where the experiment counts in steps, epochs given here replace them."""
    steps: Count | None = None
    """Optimiser steps, instead of epochs."""
    batch_size: Count = 64
    """Images in one optimiser step, over all devices."""
    images_per_device: Count | None = None
    """Images that a device takes at once; fewer than its share of the batch accumulate gradients."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Arithmetic of the network, in training and evaluation; weights, losses and boxes stay in float32."""
    clip_norm: Positive | None = None
    """Largest norm of the whole gradient; none leaves it as it is."""
    ema_decay: ShareBelow1 | None = None
    """Evaluate by an average of the weights that keeps this share of itself at a step, at first (1 + n) / (10 + n)."""
    compile: bool = False
    """Compile the network with torch.compile: the first step takes minutes, the others less."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to run; auto takes every GPU there is, else the CPU."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """What each of several processes holds: all weights (ddp), or a part of them and of the optimiser's numbers (fsdp,
    PyTorch's FSDP2), which needs less memory and more of the network. Both learn the same."""
    threads: Count | None = None
    """Processor threads of the network where it runs on a processor; PyTorch's own choice by default."""
    weights: Path | None = None
    """Start from these: a file with torchvision's names, a run, its checkpoint, torchvision/NAME or timm/NAME. By
    the word none an experiment that has such weights starts at random."""
    eval_every: Count | None = None
    """Evaluate after so many steps, and at the end; by default once an epoch, at most 20 times a run."""
    save_every: Count = 500
    """Write checkpoints/last.ckpt after so many steps."""
    keep_checkpoints: Annotated[int, Field(ge=2, le=LARGEST_COUNT)] = 2
    """Checkpoints kept beside the best one: last.ckpt, and older ones that count where it turns out to be damaged."""
    log_every: Count = 10
    """Write a line of metrics after so many steps."""
    seed: Annotated[int, Field(ge=0, lt=SEEDS)] = 0
    """Of everything drawn: the weights, the order of the images, their augmentation, anchors, dropout."""

    @field_validator("weights")
    @classmethod
    def no_weights(cls, weights: Path | None) -> Path | None:
        """The word none instead of weights, as on the command line, is no weights."""
        return None if weights == Path("none") else weights

    def total_steps(self, images: int) -> int:
        """Optimiser steps of a run on so many training images."""
        return self.steps or max(1, math.ceil(self.epochs * images / self.batch_size))

    def evaluation_interval(self, images: int) -> int:
        """Steps between two evaluations: ``eval_every``, else an epoch, but at least a twentieth of the run."""
        return self.eval_every or math.ceil(max(images / self.batch_size, self.total_steps(images) / 20))

    def usable_devices(self, devices: int) -> int:
        """The most of so many devices that can share the images of a step equally; all where not even one can."""
        images = self.images_per_device or 1
        return next((some for some in range(devices, 0, -1) if self.batch_size % (images * some) == 0), devices)

    def images_at_once(self, devices: int) -> int:
        """Images that each of so many devices takes at once.

        Raises:
            FieldError: the batch cannot be divided into equal parts.
        """
        images = self.images_per_device or max(1, self.batch_size // devices)
        if self.batch_size % (images * devices):
            raise FieldError(
                ("batch_size",),
                f"should be a multiple of {images * devices} for {devices} device(s) of {images} images each, "
                f"got {self.batch_size}",
            )
        return images


def scaled_lr(lr: float, batch_size: int, reference_batch: int) -> float:
    """A learning rate for a reference batch, grown linearly with the batch (Goyal et al. 2017)."""
    return lr * batch_size / reference_batch


class DataConfig(Config):
    """What every task asks of its data."""

    data: Path | str | None = None
    """Where the data set is."""
    train_split: str = "train"
    """Split to train on."""
    val_split: str = "val"
    """Split to evaluate on."""
    train_images: Count | None = None
    """Train on the first so many images alone."""
    val_images: Count | None = None
    """Evaluate on the first so many images alone."""
    follow_links: bool = False
    """Read images that are links to files elsewhere, as caches and DVC make them."""
    flip: Share = 0.5
    """Probability of a horizontal flip."""
    workers: CountOrZero = 4
    """Processes that read and augment images; 0 does it in the training process."""
    ranges: ClassVar[tuple[str, ...]]
    """Fields with two numbers, the smaller one first."""

    @model_validator(mode="after")
    def check_order(self) -> Self:
        """The smaller number of a range comes first."""
        for name in self.ranges:
            smaller, larger = getattr(self, name)
            if smaller > larger:
                raise FieldError((name,), f"should be two numbers, the smaller one first, got {(smaller, larger)}")
        return self


class OptimizerConfig(Config):
    """SGD, or AdamW (Loshchilov and Hutter 2019)."""

    reference_batch: ClassVar[int]
    """Images in a step for which learning rates are written down."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """SGD, as in the paper; AdamW takes other learning rates, such as 0.001, and they do not follow the batch size."""
    lr: Positive
    """Learning rate for the task's reference batch; another batch size scales it linearly."""
    momentum: ShareBelow1 = 0.9
    """Momentum of SGD."""
    weight_decay: NotNegative = 1e-4
    """On the weights of convolutions and linear layers alone, not on norms, biases and relative tables."""

    def used_lr(self, batch_size: int) -> float:
        """The largest learning rate of a run with so many images in a step."""
        return self.lr if self.optimizer == "adamw" else scaled_lr(self.lr, batch_size, self.reference_batch)

    def about_lr(self, batch_size: int) -> str:
        """That learning rate for people to read, and why it is another number than ``lr``."""
        if self.optimizer == "adamw":
            return f"{self.lr:g} (with AdamW it does not follow the batch size)"
        used = f"{self.used_lr(batch_size):g} with {batch_size} images a step"
        return f"{used} (lr {self.lr:g} is for {self.reference_batch})"


class ExperimentConfig(Config):
    """What every experiment has; a task adds its model, its data and its optimiser."""

    run: RunConfig = RunConfig()
