"""From a stored image to the square input of a classifier, in training and in evaluation.

Everything on RGB runs in Pillow, as in torchvision's recipes: RandAugment takes half the time that it takes on tensors,
the rest takes the same, and PyTorch's resizing of uint8 tensors is wrong at a width of 1. Images as stored are tensors.
"""

from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from botvision.tasks.classification.options import CROP
from botvision.tasks.classification.rand_augment import RandAugment

LONGEST_ASPECT = 4
"""Largest ratio of an image's longer to its shorter side when it is scaled for evaluation."""


def train_augmentation(
    size: int,
    *,
    crop_scale: tuple[float, float] = (0.08, 1.0),
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3),
    flip: float = 0.5,
    randaugment: tuple[int, int] | None = None,
    as_stored: bool = False,
) -> v2.Transform:
    """Random resized crop, flip and RandAugment: a Pillow image or uint8 (3, H, W) to uint8 (3, size, size).

    Args:
        size: side of the square, in pixels.
        crop_scale: smallest and largest share of the image's area.
        crop_ratio: smallest and largest ratio of the crop's width to its height.
        flip: probability of a horizontal flip.
        randaugment: operations on an image and their magnitude, 10 for full strength; none by default.
        as_stored: take images as stored, float32 (C, H, W), to float32 (C, size, size); there is no RandAugment then.
    """
    transforms: list[nn.Module] = [
        v2.RandomResizedCrop(size, scale=crop_scale, ratio=crop_ratio),
        v2.RandomHorizontalFlip(flip),
    ]
    if randaugment is not None:
        transforms.append(RandAugment(*randaugment))
    return v2.Compose(transforms if as_stored else [v2.ToPILImage(), *transforms, v2.PILToTensor()])


def eval_crop(size: int, crop: float = CROP, *, as_stored: bool = False) -> v2.Transform:
    """The centre of an image: a Pillow image or uint8 (3, H, W) to uint8 (3, size, size).

    Args:
        size: side of the square, in pixels.
        crop: its share of the image's shorter side.
        as_stored: take images as stored, float32 (C, H, W), to float32 (C, size, size).
    """
    transforms = [CutLongImages(), v2.Resize(round(size / crop)), v2.CenterCrop(size)]
    return v2.Compose(transforms if as_stored else [v2.ToPILImage(), *transforms, v2.PILToTensor()])


class CutLongImages(v2.Transform):
    """Crop images that are much longer than wide: scaled up, a line of pixels would fill the memory."""

    def forward(self, image: Image.Image | Tensor) -> Image.Image | Tensor:
        """The centre of the image, its longer side at most `LONGEST_ASPECT` times its shorter side."""
        sides = F.get_size(image)
        return F.center_crop(image, [min(side, LONGEST_ASPECT * min(sides)) for side in sides])
