"""What training and evaluation cut out of an image, beside Pillow's and torchvision's own answers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from botvision.tasks.classification.transforms import eval_crop, train_augmentation


def soft_image(height: int, width: int) -> torch.Tensor:
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([y * 255 / height, x * 255 / width, 128 + 100 * np.sin(x / 9 + y / 7)])
    return torch.from_numpy(pixels.astype(np.uint8))


def as_pillow(image: torch.Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


@pytest.mark.parametrize(("height", "width"), [(60, 90), (90, 60), (32, 32), (20, 70)])
def test_evaluation_takes_the_centre_as_pillow_does(height, width):
    image = soft_image(height, width)
    result = eval_crop(28)(image)
    scale = 32 / min(height, width)
    scaled = as_pillow(image).resize((int(width * scale), int(height * scale)), Image.Resampling.BILINEAR)
    left, top = round((scaled.width - 28) / 2), round((scaled.height - 28) / 2)
    expected = np.asarray(scaled.crop((left, top, left + 28, top + 28)))
    assert result.dtype == torch.uint8
    assert np.array_equal(result.permute(1, 2, 0), expected)


def test_the_share_of_the_crop_is_followed():
    image = soft_image(40, 40)
    assert torch.equal(eval_crop(40, crop=1.0)(image), image)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 64), st.integers(0, 9))
def test_any_image_becomes_the_square_that_is_asked_for(height, width, size, seed):
    torch.manual_seed(seed)
    image = torch.randint(256, (3, height, width), dtype=torch.uint8)
    for transform in (train_augmentation(size, randaugment=(2, 10)), train_augmentation(size), eval_crop(size)):
        result = transform(image)
        assert result.shape == (3, size, size)
        assert result.dtype == torch.uint8


def test_a_line_of_pixels_is_not_scaled_up_as_a_whole():
    image = torch.zeros((3, 1, 2_000_000), dtype=torch.uint8)
    image[:, :, 900_000:1_100_000] = 200  # scaled to a height of 256 pixels it would take 400 gigabytes
    assert (eval_crop(224)(image) == 200).all()


@pytest.mark.parametrize("seed", range(8))
def test_crops_are_those_of_torchvisions_recipe_on_pillows_images(seed):
    image = soft_image(70, 100)
    reference = v2.Compose([v2.RandomResizedCrop(32), v2.RandomHorizontalFlip(), v2.PILToTensor()])
    torch.manual_seed(seed)
    expected = reference(as_pillow(image))
    torch.manual_seed(seed)
    result = train_augmentation(32)(image)
    assert torch.equal(result, expected)
    torch.manual_seed(seed)
    assert torch.equal(train_augmentation(32)(as_pillow(image)), expected)


def test_every_augmentation_can_be_left_out():
    image = soft_image(32, 32)
    whole = {"crop_scale": (1.0, 1.0), "crop_ratio": (1.0, 1.0)}
    assert torch.equal(train_augmentation(32, **whole, flip=0.0)(image), image)
    assert torch.equal(train_augmentation(32, **whole, flip=1.0)(image), image.flip(-1))
