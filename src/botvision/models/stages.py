"""A configuration -> its blocks as data, and what a network costs. Nothing here imports PyTorch."""

from typing import NamedTuple

from botvision.layers.costs import Cost, convolution_cost, shrink
from botvision.layers.shapes import BottleneckShape, NonLocalShape
from botvision.models.config import STAGES, NetworkConfig

LEARNED_IN_NORM = {"batch": 2, "frozen": 0, "group": 2}
"""Learned values of a channel in each normalisation."""


class NamedBlock(NamedTuple):
    """One block of a network."""

    name: str
    """In its stage: torchvision's number, or "inserted" for the one that ``insert_in`` adds, so that its neighbours
    keep their numbers."""
    shape: BottleneckShape | NonLocalShape
    drop_path: float
    """Chance that an image skips the block in training."""


def stage_blocks(config: NetworkConfig) -> list[list[NamedBlock]]:
    """The blocks of c2 to c5."""
    last = sum(config.depths) + len(set(config.insert_in)) - 1
    channels, size, count = config.width, shrink(config.image_size, 4), 0  # the stem halves twice
    stages = []
    for index, stage in enumerate(STAGES):
        names = [str(number) for number in range(config.depths[index])]
        if stage in config.insert_in:
            names.insert(-1, "inserted")
        blocks = []
        for name in names:
            is_first, inserted = name == "0", name == "inserted"
            stride = config.strides[index] if is_first else 1
            shape: BottleneckShape | NonLocalShape
            if inserted and config.insert == "nonlocal":
                shape = NonLocalShape(channels)
            else:
                shape = BottleneckShape(
                    channels,
                    config.widths[index],
                    stride,
                    config.spatial_of(stage, inserted),
                    size,
                    config.heads,
                    # As torchvision and timm do: the block that lost its stride has the dilation of the stage before.
                    config.dilations[max(index - 1, 0) if is_first else index],
                    config.se_ratio,
                )
            blocks.append(NamedBlock(name, shape, config.stochastic_depth * count / max(last, 1)))
            channels, size, count = shape.outputs, shrink(size, stride), count + 1
        stages.append(blocks)
    return stages


def network_cost(config: NetworkConfig, height: int, width: int, num_classes: int = 1000) -> Cost:
    """Parameters of a network, and multiply-adds of one image of so many pixels, counted as the paper counts them.

    Multiply-adds are those of all convolutions and matrix products; normalisation and activations are left out. It is
    what :mod:`botvision.models.counting` counts in the network itself.
    """
    norm_values, size = LEARNED_IN_NORM[config.norm], shrink((height, width), 2)
    cost = convolution_cost(config.in_channels, config.width, 7, size) + Cost(norm_values * config.width)
    size = shrink(size, 2)
    for block in (block for blocks in stage_blocks(config) for block in blocks):
        cost += block.shape.cost(size, norm_values)
        size = shrink(size, block.shape.stride)
    weights = config.channels[-1] * num_classes
    return cost + Cost(weights + num_classes, weights)
