"""Configuration -> network: one builder for every ResNet and BoTNet of the paper (Table 1)."""

import torch
from torch import Tensor, nn

from botvision.layers import EXPANSION, BoTBlock, Bottleneck
from botvision.models.config import STAGES, NetworkConfig


class Network(nn.Module):
    """A ResNet, or a BoTNet where the configuration puts attention into a stage.

    Module names are torchvision's (``conv1``, ``bn1``, ``layer1`` = c2 ... ``layer4`` = c5, ``fc``).

    Args:
        config: the network as data.
        num_classes: width of the classifier; 0 leaves it out and :meth:`forward` gives the pooled features.
        features_only: :meth:`forward` gives the maps ``[c2, c3, c4, c5]`` and there is no classifier.
    """

    def __init__(self, config: NetworkConfig, num_classes: int = 1000, features_only: bool = False) -> None:
        super().__init__()
        self.config = config
        self.features_only = features_only
        self.conv1 = nn.Conv2d(3, config.width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(config.width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1, self.layer2, self.layer3, self.layer4 = build_stages(config)
        if not features_only:
            self.fc = nn.Linear(config.channels[-1], num_classes) if num_classes else nn.Identity()
        self.reset_convolutions()
        self.to(memory_format=torch.channels_last)

    def reset_convolutions(self) -> None:
        """He initialisation of the convolutions; attention layers keep the one they gave themselves."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d) and not name.endswith("mhsa.qkv"):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) -> ``[c2, c3, c4, c5]``, each (B, channels, ceil(H / r), ceil(W / r))."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x.contiguous(memory_format=torch.channels_last)))))
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            maps.append(x)
        return maps

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Images (B, 3, H, W), normalised -> logits (B, num_classes), or the four maps with ``features_only``."""
        maps = self.forward_features(x)
        return maps if self.features_only else self.fc(maps[-1].mean(dim=(2, 3)))


def build_stages(config: NetworkConfig) -> list[nn.Sequential]:
    """The stages c2 to c5 of a configuration, each a sequence of blocks."""
    stages = []
    in_channels = config.width
    side = -(-config.input_size // 4)  # of the map that enters c2: the stem halves twice, rounding up
    for index, (name, depth, stride) in enumerate(zip(STAGES, config.depths, config.strides, strict=True)):
        width = config.width << index
        blocks: list[nn.Module] = []
        for block in range(depth):
            block_stride = stride if block == 0 else 1
            if name in config.attention_in:
                blocks.append(BoTBlock(in_channels, width, (side, side), config.heads, block_stride))
            else:
                blocks.append(Bottleneck(in_channels, width, block_stride))
            in_channels = EXPANSION * width
            side = -(-side // block_stride)
        stages.append(nn.Sequential(*blocks))
    return stages
