"""A network with the normalisation of its images: pixels in, logits out."""

import torch
from torch import Tensor, nn

from botvision.classification.config import ClassifierConfig
from botvision.data.images import PIXEL_MEAN, PIXEL_STD
from botvision.models import Network


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

    def forward(self, images: Tensor) -> Tensor:
        """Normalise on the device, where it costs nothing, and classify."""
        return self.network((images - self.pixel_mean) / self.pixel_std)
