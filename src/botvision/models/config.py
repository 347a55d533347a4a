"""A network as data: everything that tells one member of the family from another."""

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from botvision.configuration import Config, Count, FieldError, ShareBelow1
from botvision.errors import nearest
from botvision.layers import EXPANSION, SPATIAL_LAYERS

C2_TO_C5 = (1, 2, 3, 4)
"""The maps that a network of features gives, counted as timm does: 0 is the stem's, 1 to 4 are c2 to c5."""


def one_or_more(value: Any) -> Any:  # noqa: ANN401 (checked by the field)
    """Take a single name for a tuple of one."""
    return (value,) if isinstance(value, str) else value


def image_side(value: Any) -> int | tuple[int, int]:  # noqa: ANN401 (whatever a user gave)
    """A whole number of at least 1, or two of them as a tuple; raises a ValueError for anything else."""
    sides = tuple(value) if isinstance(value, list | tuple) else (value, value)
    if len(sides) != 2 or not all(type(side) is int and side >= 1 for side in sides):
        raise ValueError(f"should be a whole number, at least 1, or (height, width), got {value!r}")
    return value if isinstance(value, int) else (sides[0], sides[1])


Attention = Literal["none", "qk", "qr_relative", "qk+qr_relative", "qk+qr_absolute"]
"""Terms of the logits (Table 4); "none" is a convolution instead of attention."""

Stage = Literal["c2", "c3", "c4", "c5"]
STAGES: tuple[Stage, ...] = get_args(Stage)
Stages = Annotated[tuple[Stage, ...], BeforeValidator(one_or_more)]


def known_layers(spatial: dict[str, str]) -> dict[str, str]:
    """Spatial layers by stage as they are; raises a ValueError for an unknown stage or layer."""
    for stage, name in spatial.items():
        if stage not in STAGES:
            raise ValueError(f"should name stages of {', '.join(STAGES)}, got {stage!r}")
        if name not in SPATIAL_LAYERS:
            raise ValueError(f"unknown layer {name!r} for {stage}{nearest(name, list(SPATIAL_LAYERS))}")
    return spatial


SpatialLayers = Annotated[dict[str, str], AfterValidator(known_layers)]
FourCounts = tuple[Count, Count, Count, Count]


class NetworkConfig(Config):
    """What a network of the ResNet / BoTNet family is made of (paper, Table 1).

    Raises:
        FieldError: a field that cannot be built; the message names it and says what would be right.
    """

    depths: FourCounts
    """Blocks in c2, c3, c4 and c5."""
    attention_in: Stages = ()
    """Stages whose 3x3 convolutions are replaced by attention: ("c5",) is a BoTNet, () a ResNet."""
    attention: Attention = "qk+qr_relative"
    """Terms of the logits in every BoT block (Table 4); "none" makes it a convolutional block."""
    spatial: SpatialLayers = Field(default_factory=dict)
    """Spatial layer of whole stages by its name in the registry, such as {"c5": "lambda"}; overrides attention_in."""
    c5_stride: Literal[1, 2] = 2
    """2, or 1 for BoTNet-S1."""
    heads: Count = 4
    """Heads of every spatial layer that has heads."""
    width: Count = 64
    """Channels of the stem."""
    stage_widths: FourCounts | None = None
    """Inner widths of c2 to c5, a quarter of their outputs; None: the stem's, doubled at each stage."""
    insert_in: Stages = ()
    """Stages that get one more block, between their last two (Table 7)."""
    insert: Literal["bot", "nonlocal"] = "bot"
    """Kind of that block."""
    output_stride: Literal[8, 16, 32] = 32
    """Largest stride of c5 against the image. Stages past it drop their stride and dilate their convolutions."""
    activation: Literal["relu", "silu"] = "relu"
    """Activation function."""
    norm: Literal["batch", "frozen", "group"] = "batch"
    """Normalisation; "frozen" is batch norm that never changes, "group" has 32 groups."""
    se_ratio: ShareBelow1 = 0.0
    """Squeeze-and-excitation in the convolutional blocks: its inner width over the block's output; 0 for none."""
    stochastic_depth: ShareBelow1 = 0.0
    """Chance to skip the last block in training; it grows linearly from 0 at the first."""
    dropout: ShareBelow1 = 0.0
    """Chance to drop a feature in front of the classifier, in training."""
    in_channels: Count = 3
    """Channels of the images."""
    input_size: Annotated[int | tuple[int, int], BeforeValidator(image_side)] = 224
    """Image side, or (height, width), in pixels, that position tables are made for; images can have any size."""

    @model_validator(mode="after")
    def check_stages(self) -> Self:
        """Check the fields about stages against each other."""
        for stage, depth, width in zip(STAGES, self.depths, self.widths, strict=True):
            inserted = stage in self.insert_in
            if inserted and depth < 2:
                raise FieldError(("insert_in",), f"{stage} needs 2 blocks to insert between, it has {depth}")
            layers = {self.spatial_of(stage), self.spatial_of(stage, inserted and self.insert == "bot")}
            if any(SPATIAL_LAYERS[layer].has_heads for layer in layers) and width % self.heads:
                problem = f"should divide the width of {stage}, got {self.heads} heads and {width} channels"
                raise FieldError(("heads",), problem)
        return self

    def spatial_of(self, stage: Stage, inserted: bool = False) -> str:
        """Name of the spatial layer in a stage's blocks, or in the BoT block that is inserted into it."""
        attention = "conv" if self.attention == "none" else self.attention
        if inserted:
            return attention
        return self.spatial.get(stage, attention if stage in self.attention_in else "conv")

    @property
    def widths(self) -> tuple[int, int, int, int]:
        """Inner width of each stage's blocks."""
        return self.stage_widths or (self.width, 2 * self.width, 4 * self.width, 8 * self.width)

    @property
    def image_size(self) -> tuple[int, int]:
        """``input_size`` as (height, width)."""
        return (self.input_size, self.input_size) if isinstance(self.input_size, int) else self.input_size

    @property
    def channels(self) -> tuple[int, int, int, int]:
        """Channels of the maps c2 to c5."""
        c2, c3, c4, c5 = (EXPANSION * width for width in self.widths)
        return (c2, c3, c4, c5)

    @property
    def strides(self) -> tuple[int, int, int, int]:
        """Stride of each stage's first block."""
        c4 = 2 if self.output_stride >= 16 else 1
        return (1, 2, c4, self.c5_stride if self.output_stride >= 16 * self.c5_stride else 1)

    @property
    def dilations(self) -> tuple[int, int, int, int]:
        """Dilation of each stage's 3x3 convolutions: the strides dropped because of ``output_stride`` up to there."""
        dropped_in_c4 = 2 // self.strides[2]
        return (1, 1, dropped_in_c4, dropped_in_c4 * (self.c5_stride // self.strides[3]))

    @property
    def reductions(self) -> tuple[int, int, int, int]:
        """Stride of the maps c2 to c5 against the image."""
        c4 = 8 * self.strides[2]
        return (4, 8, c4, c4 * self.strides[3])
