"""A network with the normalisation of its images: pixels in, logits out."""

import torch
from torch import Tensor

from botvision.models import Network
from botvision.tasks.classification.config import ClassifierConfig
from botvision.tasks.pixels import PixelModel


class Classifier(PixelModel):
    """Pixels to logits.

    Args:
        config: the classifier as data.
        num_classes: K.

    Shape:
        images (B, C, H, W), RGB from 0 to 255 or as stored, uint8 or floating point, any H and W -> logits (B, K).
    """

    def __init__(self, config: ClassifierConfig, num_classes: int) -> None:
        super().__init__(config)
        self.config: ClassifierConfig = config
        self.num_classes = num_classes
        self.network = Network(config.network(), num_classes)
        self.freeze(config.freeze)

    @property
    def trunk(self) -> Network:
        """The whole network."""
        return self.network

    def forward(self, images: Tensor) -> Tensor:
        """Normalise and classify, in channels-last memory; bytes change their layout fastest."""
        return self.network(self.normalised(images.contiguous(memory_format=torch.channels_last)))
