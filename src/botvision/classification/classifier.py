"""A network with the normalisation of its images: pixels in, logits out."""

import torch
from torch import Tensor, nn

from botvision.classification.config import ClassifierConfig
from botvision.data.images import PIXEL_MEAN, PIXEL_STD
from botvision.models import Network

STAGES = {"stem": ("conv1", "bn1"), "c2": ("layer1",), "c3": ("layer2",), "c4": ("layer3",), "c5": ("layer4",)}
"""Where the stages of the paper's Table 1 are in a network, from the image on."""


class Classifier(nn.Module):
    """Pixels to logits.

    Args:
        config: the classifier as data.
        num_classes: K.

    Shape:
        images (B, 3, H, W), 0 to 255, uint8 or floating point, any H and W -> logits (B, K).
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: ClassifierConfig, num_classes: int) -> None:
        super().__init__()
        self.config = config
        self.num_classes = num_classes
        self.network = Network(config.network(), num_classes)
        self.register_buffer("pixel_mean", torch.tensor(PIXEL_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(PIXEL_STD).view(3, 1, 1), persistent=False)
        for part in self.frozen_parts():
            part.requires_grad_(False)

    def frozen_parts(self) -> list[nn.Module]:
        """What ``freeze`` leaves as it was loaded: everything up to that stage."""
        names = list(STAGES)
        frozen = names[: names.index(self.config.freeze) + 1] if self.config.freeze != "none" else []
        return [getattr(self.network, part) for stage in frozen for part in STAGES[stage]]

    def train(self, mode: bool = True) -> "Classifier":
        """Switch to training or test; frozen parts stay in test, so that their statistics stay too."""
        super().train(mode)
        for part in self.frozen_parts():
            part.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Normalise on the device, where it costs nothing, and classify; the layout changes while pixels are small."""
        images = images.contiguous(memory_format=torch.channels_last)
        return self.network((images - self.pixel_mean) / self.pixel_std)
