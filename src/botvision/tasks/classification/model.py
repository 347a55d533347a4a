"""A network with the normalisation of its images: pixels in, logits out."""

from typing import Self

import torch
from torch import Tensor, nn

from botvision.data.images import PIXEL_MEAN, PIXEL_STD
from botvision.models import Network
from botvision.tasks.classification.config import ClassifierConfig
from botvision.tasks.frozen import freeze, keep_in_test_mode


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
        freeze(self.network, config.freeze)

    def train(self, mode: bool = True) -> Self:
        """Switch to training or test; frozen parts stay in test, so that their statistics stay too."""
        super().train(mode)
        keep_in_test_mode(self.network, self.config.freeze)
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Normalise on the device, where it costs nothing, and classify; the layout changes while pixels are small."""
        images = images.contiguous(memory_format=torch.channels_last)
        return self.network((images - self.pixel_mean) / self.pixel_std)
