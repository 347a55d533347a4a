"""A network as data: everything that tells one member of the family from another."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from botvision.errors import UserError
from botvision.layers import ATTENTION_KINDS, EXPANSION, MakeNorm

STAGES = ("c2", "c3", "c4", "c5")

NORM_GROUPS = 32
"""Groups of a group norm (Wu and He 2018)."""

NORMS: dict[str, MakeNorm] = {
    "batch": nn.BatchNorm2d,
    "frozen": FrozenBatchNorm2d,
    "group": partial(nn.GroupNorm, NORM_GROUPS),
}
ACTIVATIONS: dict[str, type[nn.ReLU | nn.SiLU]] = {"relu": nn.ReLU, "silu": nn.SiLU}
INSERTS = ("bot", "nonlocal")

FourInts = tuple[int, int, int, int]


@dataclass(frozen=True)
class NetworkConfig:
    """What a network of the ResNet / BoTNet family is made of (paper, Table 1).

    Raises:
        UserError: a field that cannot be built; the message names it and says what would be right.
    """

    depths: FourInts
    """Blocks in c2, c3, c4 and c5."""
    attention_in: tuple[str, ...] = ()
    """Stages whose 3x3 convolutions are replaced by attention: ("c5",) is a BoTNet, () a ResNet."""
    attention: str = "qk+qr_relative"
    """What the logits of every BoT block are made of (Table 4); "none" makes it a convolutional block."""
    c5_stride: int = 2
    """2, or 1 for BoTNet-S1."""
    heads: int = 4
    """Attention heads of every BoT block."""
    width: int = 64
    """Channels of the stem."""
    stage_widths: FourInts | None = None
    """Inner widths of c2 to c5, a quarter of their outputs; None: the stem's, doubled at each stage."""
    insert_in: tuple[str, ...] = ()
    """Stages that get one more block, between their last two (Table 7)."""
    insert: str = "bot"
    """That block: "bot" or "nonlocal"."""
    output_stride: int = 32
    """Of c5 against the image, at most: 32, 16 or 8. Stages past it drop their stride and dilate their convolutions."""
    activation: str = "relu"
    """"relu" or "silu"."""
    norm: str = "batch"
    """"batch", "frozen" (batch norm that never changes) or "group" (32 groups)."""
    se_ratio: float = 0.0
    """Squeeze-and-excitation in the convolutional blocks: its inner width over the block's output; 0 for none."""
    stochastic_depth: float = 0.0
    """Chance to skip the last block in training; it grows linearly from 0 at the first."""
    dropout: float = 0.0
    """Chance to drop a feature in front of the classifier, in training."""
    in_channels: int = 3
    """Channels of the images."""
    input_size: int | tuple[int, int] = 224
    """Image side, or (height, width), in pixels, that the position tables are made for; any size can go in."""

    def __post_init__(self) -> None:
        """Check every field. Lists, as configuration files hold them, become tuples, and one stage a tuple of one."""
        for name in ("depths", "attention_in", "stage_widths", "insert_in", "input_size"):
            value = getattr(self, name)
            if isinstance(value, list):
                object.__setattr__(self, name, tuple(value))
            if isinstance(value, str) and name in ("attention_in", "insert_in"):
                object.__setattr__(self, name, (value,))
        for name, known in {
            "attention": ("none", *ATTENTION_KINDS),
            "c5_stride": (1, 2),
            "insert": INSERTS,
            "output_stride": (8, 16, 32),
            "activation": tuple(ACTIVATIONS),
            "norm": tuple(NORMS),
        }.items():
            if getattr(self, name) not in known:
                raise UserError(f"{name} must be one of {', '.join(map(str, known))}, got {getattr(self, name)!r}")
        for name in ("heads", "width", "in_channels", "c5_stride", "output_stride"):
            if not are_counts((getattr(self, name),), 1):
                raise UserError(f"{name} must be at least 1, a whole number, got {getattr(self, name)!r}")
        if not are_counts((self.input_size,), 1) and not are_counts(self.input_size, 2):
            raise UserError(
                f"input_size must be at least 1, a whole number or (height, width), got {self.input_size!r}"
            )
        for name in ("se_ratio", "stochastic_depth", "dropout"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 <= value < 1:
                raise UserError(f"{name} must be at least 0 and below 1, got {value!r}")
        self.check_stages()

    def check_stages(self) -> None:
        """Check the fields that speak of stages against each other."""
        for name, numbers, what in (("depths", self.depths, "blocks"), ("stage_widths", self.widths, "channels")):
            if not are_counts(numbers, len(STAGES)):
                raise UserError(f"{name} must be 4 numbers of {what}, each at least 1, got {numbers!r}")
        for name in ("attention_in", "insert_in"):
            if not isinstance(getattr(self, name), tuple):
                raise UserError(f"{name} must be names of stages, got {getattr(self, name)!r}")
            for stage in getattr(self, name):
                if stage not in STAGES:
                    raise UserError(f"{name} has {stage!r}, the stages are {', '.join(STAGES)}")
        for stage, depth, width in zip(STAGES, self.depths, self.widths, strict=True):
            if stage in self.insert_in and depth < 2:
                raise UserError(f"insert_in has {stage!r}, which needs 2 blocks to insert between and has {depth}")
            if self.has_attention(stage) and width % self.heads:
                raise UserError(f"heads must divide the width of {stage}: {self.heads} heads, {width} wide")
        if self.norm == "group" and any(width % NORM_GROUPS for width in (self.width, *self.widths)):
            raise UserError(f"group norm needs widths divisible by {NORM_GROUPS}, got {(self.width, *self.widths)}")

    def has_attention(self, stage: str) -> bool:
        """Whether a stage has a BoT block, in place of its convolutions or inserted."""
        inserted = stage in self.insert_in and self.insert == "bot"
        return self.attention != "none" and (stage in self.attention_in or inserted)

    @property
    def widths(self) -> FourInts:
        """Inner width of each stage's blocks."""
        if self.stage_widths is not None:
            return self.stage_widths
        return (self.width, 2 * self.width, 4 * self.width, 8 * self.width)

    @property
    def image_size(self) -> tuple[int, int]:
        """``input_size`` as (height, width)."""
        return (self.input_size, self.input_size) if isinstance(self.input_size, int) else self.input_size

    @property
    def channels(self) -> FourInts:
        """Channels of the maps c2 to c5."""
        c2, c3, c4, c5 = (EXPANSION * width for width in self.widths)
        return (c2, c3, c4, c5)

    @property
    def strides(self) -> FourInts:
        """Stride of each stage's first block."""
        c2, c3, c4, c5 = (1, 2, 2, self.c5_stride)
        return (c2, c3, c4 if self.output_stride >= 16 else 1, c5 if self.output_stride >= 16 * c5 else 1)

    @property
    def dilations(self) -> FourInts:
        """Dilation of each stage's 3x3 convolutions: what its stride and those before it lost to ``output_stride``."""
        lost_in_c4 = 2 // self.strides[2]
        return (1, 1, lost_in_c4, lost_in_c4 * (self.c5_stride // self.strides[3]))

    @property
    def reductions(self) -> FourInts:
        """Stride of the maps c2 to c5 against the image."""
        c4 = 8 * self.strides[2]
        return (4, 8, c4, c4 * self.strides[3])


def are_counts(values: Any, length: int) -> bool:  # noqa: ANN401 (whatever a user gave)
    """Whether ``values`` are so many whole numbers, each at least 1."""
    return (
        isinstance(values, tuple)
        and len(values) == length
        and all(isinstance(value, int) and not isinstance(value, bool) and value >= 1 for value in values)
    )
