"""Configuration -> network: one builder for every ResNet, SENet and BoTNet of the paper (Table 1)."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential
from torchvision.ops import FrozenBatchNorm2d

from botvision.configuration import FieldError
from botvision.errors import UserError
from botvision.layers import Bottleneck, MakeNorm, NonLocalBlock, Style, convolution
from botvision.layers.activations import SiLU
from botvision.layers.shapes import NonLocalShape
from botvision.models.config import C2_TO_C5, NetworkConfig
from botvision.models.stages import NamedBlock, stage_blocks
from botvision.symbolic import always_true

MODULES = ("relu", "layer1", "layer2", "layer3", "layer4")
"""That give the maps of stride 2 and those of c2 to c5."""
NORM_GROUPS = 32
"""Groups of a group norm (Wu and He 2018)."""


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm; raises a FieldError for channels that the groups do not divide."""
    if channels % NORM_GROUPS:
        raise FieldError(("norm",), f"group norm needs widths divisible by {NORM_GROUPS}, got {channels}")
    return nn.GroupNorm(NORM_GROUPS, channels)


NORMS: dict[str, MakeNorm] = {"batch": nn.BatchNorm2d, "frozen": FrozenBatchNorm2d, "group": group_norm}
ACTIVATIONS: dict[str, type[nn.ReLU | nn.SiLU]] = {"relu": nn.ReLU, "silu": SiLU}


class FeatureInfo(NamedTuple):
    """The maps that a network gives with ``features_only``, by the names that timm has for these questions."""

    maps: tuple[tuple[int, int, str], ...]
    """Channels, stride against the image and module of each map."""

    def channels(self) -> list[int]:
        """Of each map."""
        return [channels for channels, _, _ in self.maps]

    def reduction(self) -> list[int]:
        """The stride of each map against the image."""
        return [stride for _, stride, _ in self.maps]

    def module_name(self) -> list[str]:
        """The module that each map comes from."""
        return [module for _, _, module in self.maps]


class Network(nn.Module):
    """A ResNet, or a BoTNet where the configuration puts attention into a stage.

    Module names and their order are torchvision's (``conv1``, ``bn1``, ``relu``, ``maxpool``, ``layer1`` = c2 ...
    ``layer4`` = c5, ``fc``), so that its ``BackboneWithFPN`` and ``IntermediateLayerGetter`` accept a network.

    Args:
        config: the network as data.
        num_classes: width of the classifier; 0 leaves it out and :meth:`forward` gives the pooled features.
        features_only: :meth:`forward` gives the maps ``[c2, c3, c4, c5]`` and there is no classifier.
        out_indices: which maps it gives then, counted as timm does: 0 is the stem's, of stride 2, and 1 to 4 are c2 to
            c5.

    ``feature_info`` tells their channels and strides.

    Raises:
        FieldError: ``num_classes`` is not a whole number of at least 0, ``out_indices`` names no map, or ``norm`` does
            not fit the widths.
    """

    def __init__(
        self,
        config: NetworkConfig,
        num_classes: int = 1000,
        features_only: bool = False,
        out_indices: Sequence[int] = C2_TO_C5,
    ) -> None:
        super().__init__()
        check_classes(num_classes)
        check_indices(out_indices)
        self.config = config
        self.num_classes = num_classes
        self.features_only = features_only
        self.out_indices = tuple(out_indices)
        maps = list(zip((config.width, *config.channels), (2, *config.reductions), MODULES, strict=True))
        self.feature_info = FeatureInfo(tuple(maps[index] for index in out_indices))
        self.grad_checkpointing = False
        self.conv1 = convolution(config.in_channels, config.width, kernel_size=7, stride=2)
        self.bn1 = NORMS[config.norm](config.width)
        self.relu = ACTIVATIONS[config.activation](inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1, self.layer2, self.layer3, self.layer4 = build_stages(config)
        if not features_only:
            self.dropout = nn.Dropout(config.dropout)
            self.fc = nn.Linear(config.channels[-1], num_classes) if num_classes else nn.Identity()
        self.to(memory_format=torch.channels_last)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute blocks again in the backward pass instead of keeping their activations (timm's name for it)."""
        self.grad_checkpointing = enable

    def reset_classifier(self, num_classes: int) -> None:
        """Give the network a new classifier, at random; 0 leaves it out.

        Raises:
            FieldError: not a whole number of at least 0, or a network of features.
        """
        check_classes(num_classes)
        if self.features_only:
            raise FieldError(("features_only",), "gives a network without a classifier, so there is none to reset")
        self.num_classes = num_classes
        fc = nn.Linear(self.config.channels[-1], num_classes) if num_classes else nn.Identity()
        self.fc = fc.to(self.conv1.weight)

    def norm_pairs(self) -> list[tuple[str, str]]:
        """Layers of the stem and the norms right behind them; see :func:`~botvision.models.folding.fold`."""
        return [("conv1", "bn1")]

    def stages(self) -> tuple[nn.Sequential, ...]:
        """The blocks of c2 to c5."""
        return self.layer1, self.layer2, self.layer3, self.layer4

    def forward_maps(self, x: Tensor, content_size: Tensor | None = None) -> list[Tensor]:
        """Images (B, 3, H, W) -> ``[c2, c3, c4, c5]``, each (B, channels, ceil(H / r), ceil(W / r)).

        Args:
            x: the images.
            content_size: (B, 2), the rows and columns of pixels of each image, from the first on, that are no padding.
                No position attends to the padding then; convolutions and lambda layers do not tell it from the image.

        Raises:
            UserError: other channels than the network's, or images smaller than one cell of the last map.
        """
        return self.forward_stages(self.forward_stem(x), content_size)

    def forward_stem(self, x: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> the map of stride 2, (B, width, ceil(H / 2), ceil(W / 2)); errors as above."""
        check_images(self.config, x)
        return self.relu(self.bn1(self.conv1(x.contiguous(memory_format=torch.channels_last))))

    def forward_stages(self, x: Tensor, content_size: Tensor | None = None) -> list[Tensor]:
        """The stem's map -> ``[c2, c3, c4, c5]``; see :meth:`forward_maps`."""
        x = self.maxpool(x)
        recompute = self.grad_checkpointing and torch.is_grad_enabled()
        valid_size = None if content_size is None else over(content_size, 4)  # the stem halves twice
        maps = []
        for stage, stride in zip(self.stages(), self.config.strides, strict=True):
            if valid_size is not None:
                x = masked_stage(stage, x, valid_size, stride, recompute)
                valid_size = over(valid_size, stride)
            else:
                x = checkpoint_sequential(stage, len(stage), x, use_reentrant=False) if recompute else stage(x)
            maps.append(x)
        return maps

    def forward_head(self, x: Tensor) -> Tensor:
        """The map c5 (B, channels, H, W) -> logits (B, num_classes)."""
        # Channels last: the gradient of a mean over the last two axes would have another memory layout than the map,
        # which slows down the backward pass of all blocks of c5, batch norm's above all.
        return self.fc(self.dropout(x.permute(0, 2, 3, 1).mean(dim=(1, 2))))

    def forward(self, x: Tensor, content_size: Tensor | None = None) -> Tensor | list[Tensor]:
        """Images (B, 3, H, W), normalised -> logits (B, num_classes), or the maps with ``features_only``.

        ``content_size`` as for :meth:`forward_maps`; the classifier averages over the padding too.
        """
        stem = self.forward_stem(x)
        maps = self.forward_stages(stem, content_size)
        if not self.features_only:
            return self.forward_head(maps[-1])
        return [(stem, *maps)[index] for index in self.out_indices]


def masked_stage(stage: nn.Sequential, x: Tensor, valid_size: Tensor, stride: int, recompute: bool) -> Tensor:
    """The blocks of a stage, each told what of its map is no padding; the first block has the stride."""
    for block in stage:
        x = checkpoint(block, x, valid_size, use_reentrant=False) if recompute else block(x, valid_size)
        valid_size, stride = over(valid_size, stride), 1
    return x


def over(size: Tensor, stride: int) -> Tensor:
    """Rows and columns over a stride, rounded up."""
    return (size + stride - 1) // stride


def check_images(config: NetworkConfig, x: Tensor) -> None:
    """Raise a UserError for images that a network cannot take."""
    channels, least = config.in_channels, config.reductions[-1]
    if x.ndim != 4 or x.shape[1] != channels:
        raise UserError(f"images should be (B, {channels}, H, W), got shape {tuple(x.shape)}")
    if any(always_true(side < least) for side in x.shape[2:]):
        raise UserError(f"images should be at least {least}x{least} pixels, got {x.shape[2]}x{x.shape[3]}")


def check_indices(out_indices: Sequence[int]) -> None:
    """Raise a FieldError for maps that there are not."""
    if not out_indices or not all(index in range(len(MODULES)) for index in out_indices):
        raise FieldError(("out_indices",), f"should be some of 0 (the stem) to 4 (c5), got {out_indices!r}")


def check_classes(num_classes: int) -> None:
    """Raise a FieldError for a number of classes that no classifier can have."""
    if not isinstance(num_classes, int) or num_classes < 0:
        raise FieldError(("num_classes",), f"should be a whole number, at least 0, got {num_classes!r}")


def build_stages(config: NetworkConfig) -> Iterator[nn.Sequential]:
    """The stages c2 to c5."""
    style = Style(NORMS[config.norm], ACTIVATIONS[config.activation], config.se_ratio)
    for stage in stage_blocks(config):
        blocks = nn.Sequential()
        for entry in stage:
            blocks.add_module(entry.name, build_block(entry, style))
        yield blocks


def build_block(entry: NamedBlock, style: Style) -> nn.Module:
    """The module of a block."""
    shape = entry.shape
    if isinstance(shape, NonLocalShape):
        return NonLocalBlock(shape.channels, style.norm)
    return Bottleneck(
        shape.in_channels,
        shape.width,
        shape.stride,
        shape.spatial,
        size=shape.size,
        heads=shape.heads,
        dilation=shape.dilation,
        drop_path=entry.drop_path,
        style=style,
    )
