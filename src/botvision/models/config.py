"""A network as data: everything that tells one member of the family from another."""

from dataclasses import dataclass

STAGES = ("c2", "c3", "c4", "c5")


@dataclass(frozen=True)
class NetworkConfig:
    """What a network of the ResNet / BoTNet family is made of (paper, Table 1).

    Raises:
        ValueError: a field that cannot be built; the message names it and says what would be right.
    """

    depths: tuple[int, int, int, int]
    """Blocks in c2, c3, c4 and c5."""
    attention_in: tuple[str, ...] = ()
    """Stages whose 3x3 convolutions are replaced by attention: ("c5",) is a BoTNet, () a ResNet."""
    c5_stride: int = 2
    """2, or 1 for BoTNet-S1."""
    heads: int = 4
    """Attention heads of every attention layer."""
    width: int = 64
    """Channels of the stem; the inner width of c2, doubled at each stage."""
    input_size: int = 224
    """Image height and width, in pixels, that the relative tables are made for; any size can go in."""

    def __post_init__(self) -> None:
        """Check every field."""
        if len(self.depths) != len(STAGES) or min(self.depths) < 1:
            raise ValueError(f"depths must be 4 numbers of blocks, each at least 1, got {self.depths}")
        unknown = [stage for stage in self.attention_in if stage not in STAGES]
        if unknown:
            raise ValueError(f"attention_in has {unknown[0]!r}, the stages are {', '.join(STAGES)}")
        if self.c5_stride not in (1, 2):
            raise ValueError(f"c5_stride must be 1 or 2, got {self.c5_stride}")
        if self.input_size < 1:
            raise ValueError(f"input_size must be at least 1 pixel, got {self.input_size}")
        for index, stage in enumerate(STAGES):
            if stage in self.attention_in and (self.width << index) % self.heads:
                raise ValueError(
                    f"heads must divide the width of {stage}: {self.heads} heads, {self.width << index} wide"
                )

    @property
    def strides(self) -> tuple[int, int, int, int]:
        """Stride of each stage's first block."""
        return (1, 2, 2, self.c5_stride)

    @property
    def channels(self) -> tuple[int, int, int, int]:
        """Channels of the maps c2 to c5."""
        return (4 * self.width, 8 * self.width, 16 * self.width, 32 * self.width)

    @property
    def reductions(self) -> tuple[int, int, int, int]:
        """Stride of the maps c2 to c5 against the image."""
        return (4, 8, 16, 16 * self.c5_stride)
