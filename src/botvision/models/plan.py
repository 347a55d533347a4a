"""Configuration -> the list of a network's blocks, still as data: what the builder builds and ``--tree`` prints."""

from dataclasses import dataclass

from botvision.models.config import STAGES, NetworkConfig


@dataclass(frozen=True)
class BlockPlan:
    """One block of a stage."""

    name: str
    """Its number in the stage as torchvision counts, or "inserted", which leaves its neighbours their numbers."""
    kind: str
    """"conv", "bot" or "nonlocal"."""
    in_channels: int
    width: int
    size: tuple[int, int]
    """(H, W) of the map that enters, in positions, at the configuration's input size."""
    stride: int
    dilation: int
    drop_path: float
    """Chance to skip the block in training."""


def plan_stages(config: NetworkConfig) -> list[list[BlockPlan]]:
    """The blocks of c2 to c5."""
    names = [block_names(stage, depth, config) for stage, depth in zip(STAGES, config.depths, strict=True)]
    last = sum(map(len, names)) - 1
    channels, size, count = config.width, shrink(config.image_size, 4), 0  # the stem halves twice, rounding up
    stages = []
    for index, stage in enumerate(STAGES):
        blocks = []
        for name in names[index]:
            is_first = name == "0"
            block = BlockPlan(
                name=name,
                kind=block_kind(stage, name, config),
                in_channels=channels,
                width=config.widths[index],
                size=size,
                stride=config.strides[index] if is_first else 1,
                # As torchvision and timm do: the block that lost its stride still has the dilation before it.
                dilation=config.dilations[max(index - 1, 0) if is_first else index],
                drop_path=config.stochastic_depth * count / max(last, 1),
            )
            channels, size, count = config.channels[index], shrink(size, block.stride), count + 1
            blocks.append(block)
        stages.append(blocks)
    return stages


def shrink(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """(H, W) over a stride, rounded up."""
    return -(-size[0] // stride), -(-size[1] // stride)


def block_names(stage: str, depth: int, config: NetworkConfig) -> list[str]:
    """Numbers of a stage's blocks, with "inserted" between the last two where the configuration asks for it."""
    names = [str(number) for number in range(depth)]
    if stage in config.insert_in:
        names.insert(-1, "inserted")
    return names


def block_kind(stage: str, name: str, config: NetworkConfig) -> str:
    """ "conv", "bot" or "nonlocal"; attention "none" makes a BoT block a convolutional one (Table 4)."""
    if name == "inserted" and config.insert == "nonlocal":
        return "nonlocal"
    attends = name == "inserted" or stage in config.attention_in
    return "bot" if attends and config.attention != "none" else "conv"
