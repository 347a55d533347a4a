"""Configuration -> network: one builder for every ResNet, SENet and BoTNet of the paper (Table 1)."""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.utils.checkpoint import checkpoint_sequential

from botvision.errors import UserError
from botvision.layers import BoTBlock, Bottleneck, NonLocalBlock, Style
from botvision.models.config import ACTIVATIONS, NORMS, NetworkConfig
from botvision.models.plan import BlockPlan, plan_stages


class Network(nn.Module):
    """A ResNet, or a BoTNet where the configuration puts attention into a stage.

    Module names and their order are torchvision's (``conv1``, ``bn1``, ``relu``, ``maxpool``, ``layer1`` = c2 ...
    ``layer4`` = c5, ``fc``), so that its ``BackboneWithFPN`` and ``IntermediateLayerGetter`` take a network as it is.

    Args:
        config: the network as data.
        num_classes: width of the classifier; 0 leaves it out and :meth:`forward` gives the pooled features.
        features_only: :meth:`forward` gives the maps ``[c2, c3, c4, c5]`` and there is no classifier.

    Raises:
        UserError: ``num_classes`` is no whole number of at least 0.
    """

    def __init__(self, config: NetworkConfig, num_classes: int = 1000, features_only: bool = False) -> None:
        super().__init__()
        check_classes(num_classes)
        self.config = config
        self.num_classes = num_classes
        self.features_only = features_only
        self.grad_checkpointing = False
        self.conv1 = nn.Conv2d(config.in_channels, config.width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = NORMS[config.norm](config.width)
        self.relu = ACTIVATIONS[config.activation](inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            nn.Sequential(OrderedDict((plan.name, build_block(plan, config)) for plan in stage))
            for stage in plan_stages(config)
        )
        if not features_only:
            self.dropout = nn.Dropout(config.dropout)
            self.fc = nn.Linear(config.channels[-1], num_classes) if num_classes else nn.Identity()
        self.reset_convolutions()
        self.to(memory_format=torch.channels_last)

    def reset_convolutions(self) -> None:
        """He initialisation of the convolutions; attention layers keep the one they gave themselves."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d) and not name.endswith("mhsa.qkv"):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute blocks again in the backward pass instead of keeping what is inside them (timm's name for it)."""
        self.grad_checkpointing = enable

    def forward_maps(self, x: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) -> ``[c2, c3, c4, c5]``, each (B, channels, ceil(H / r), ceil(W / r)).

        Raises:
            UserError: other channels than the network's, or images smaller than one cell of the last map.
        """
        check_images(self.config, x)
        x = self.maxpool(self.relu(self.bn1(self.conv1(x.contiguous(memory_format=torch.channels_last)))))
        again = self.grad_checkpointing and torch.is_grad_enabled()
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = checkpoint_sequential(stage, len(stage), x, use_reentrant=False) if again else stage(x)
            maps.append(x)
        return maps

    def forward_head(self, x: Tensor) -> Tensor:
        """The map c5 (B, channels, H, W) -> logits (B, num_classes)."""
        return self.fc(self.dropout(x.mean(dim=(2, 3))))

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Images (B, 3, H, W), normalised -> logits (B, num_classes), or the four maps with ``features_only``."""
        maps = self.forward_maps(x)
        return maps if self.features_only else self.forward_head(maps[-1])


def check_images(config: NetworkConfig, x: Tensor) -> None:
    """Raise a UserError for images that a network cannot take."""
    channels, least = config.in_channels, config.reductions[-1]
    if x.ndim != 4 or x.shape[1] != channels:
        raise UserError(f"images must be (B, {channels}, H, W), got shape {tuple(x.shape)}")
    if any(statically_known_true(side < least) for side in x.shape[2:]):
        raise UserError(f"images must be at least {least}x{least} pixels, got {x.shape[2]}x{x.shape[3]}")


def check_classes(num_classes: int) -> None:
    """Raise a UserError for a number of classes that no classifier can have."""
    if not isinstance(num_classes, int) or num_classes < 0:
        raise UserError(f"num_classes must be a whole number, at least 0, got {num_classes!r}")


def build_block(plan: BlockPlan, config: NetworkConfig) -> nn.Module:
    """One block of a stage as a module."""
    norm = NORMS[config.norm]
    if plan.kind == "nonlocal":
        return NonLocalBlock(plan.in_channels, norm)
    style = Style(norm, ACTIVATIONS[config.activation], plan.drop_path)
    if plan.kind == "bot":
        return BoTBlock(plan.in_channels, plan.width, plan.size, config.heads, plan.stride, config.attention, style)
    return Bottleneck(
        plan.in_channels, plan.width, plan.stride, style, dilation=plan.dilation, se_ratio=config.se_ratio
    )
