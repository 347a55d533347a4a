"""RandAugment (Cubuk et al. 2020) as the paper's authors have it: a magnitude of 10 is an operation's full strength.

Strengths and operations are those of the authors' public code (github.com/tensorflow/tpu, efficientnet/autoaugment.py).
torchvision's RandAugment has a scale of 30 and other operations; the same number there is about a third as strong.
"""

from collections.abc import Callable
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageEnhance, ImageOps
from torch import nn

GREY = (128, 128, 128)
"""Fills what translations, shears, rotations and Cutout leave without a value."""
FULL = 10
"""The magnitude at which an operation has its full strength; larger ones go beyond it."""
CHANCE = (0.2, 0.8)
"""An operation that was chosen is applied with a probability drawn from here."""
SOLARIZE_ADD_BELOW = 128
"""SolarizeAdd brightens values below this one."""


def affine(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    """Output pixel (x, y) is input pixel (ax + by + c, dx + ey + f), grey outside the image."""
    return image.transform(image.size, Image.Transform.AFFINE, matrix, fillcolor=GREY)


def solarize_add(image: Image.Image, addition: int) -> Image.Image:
    """Add to the values below 128, up to 255."""
    table = [min(255, value + addition) if value < SOLARIZE_ADD_BELOW else value for value in range(256)]
    return image.point(table * 3)


def cutout(image: Image.Image, half: int) -> Image.Image:
    """Cover a square around a random pixel with grey (DeVries and Taylor 2017); half its side is given, in pixels."""
    x, y = (int(torch.randint(side, ())) for side in image.size)
    image = image.copy()
    if half:
        ImageDraw.Draw(image).rectangle((x - half, y - half, x + half - 1, y + half - 1), fill=GREY)
    return image


def enhanced(enhance: Callable[[Image.Image], Any]) -> Callable[[Image.Image, float], Image.Image]:
    """An operation that blends with a changed image: strength 0 gives a factor of 0.1, full strength 1.9."""
    return lambda image, share: enhance(image).enhance(0.1 + 1.8 * share)


OPERATIONS: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "AutoContrast": lambda image, share: ImageOps.autocontrast(image),
    "Equalize": lambda image, share: ImageOps.equalize(image),
    "Invert": lambda image, share: ImageOps.invert(image),
    "Rotate": lambda image, share: image.rotate(30 * either_sign(share), fillcolor=GREY),
    "Posterize": lambda image, share: ImageOps.posterize(image, int(4 * share)),
    "Solarize": lambda image, share: ImageOps.solarize(image, int(256 * share)),
    "SolarizeAdd": lambda image, share: solarize_add(image, int(110 * share)),
    "Color": enhanced(ImageEnhance.Color),
    "Contrast": enhanced(ImageEnhance.Contrast),
    "Brightness": enhanced(ImageEnhance.Brightness),
    "Sharpness": enhanced(ImageEnhance.Sharpness),
    "ShearX": lambda image, share: affine(image, (1, 0.3 * either_sign(share), 0, 0, 1, 0)),
    "ShearY": lambda image, share: affine(image, (1, 0, 0, 0.3 * either_sign(share), 1, 0)),
    "TranslateX": lambda image, share: affine(image, (1, 0, 100 * either_sign(share), 0, 1, 0)),
    "TranslateY": lambda image, share: affine(image, (1, 0, 0, 0, 1, 100 * either_sign(share))),
    "Cutout": lambda image, share: cutout(image, int(40 * share)),
}
"""What can happen to an RGB image, by the share of the full strength; rotations in degrees, distances in pixels."""


def either_sign(share: float) -> float:
    """The share, or its negative with a chance of a half."""
    return share if torch.rand(()) < 0.5 else -share


class RandAugment(nn.Module):
    """Random operations one after the other, each applied with a random chance.

    Everything random comes from PyTorch's global generator.

    Args:
        layers: operations to choose for an image.
        magnitude: their strength, 10 for the full one.
    """

    def __init__(self, layers: int, magnitude: float) -> None:
        super().__init__()
        self.layers, self.share = layers, magnitude / FULL

    def forward(self, image: Image.Image) -> Image.Image:
        """An RGB image to one of the same size."""
        operations = list(OPERATIONS.values())
        for choice in torch.randint(len(operations), (self.layers,)).tolist():
            chance = torch.empty(()).uniform_(*CHANCE)
            if torch.rand(()) < chance:
                image = operations[choice](image, self.share)
        return image
