"""RandAugment operation by operation against NumPy, with the strengths that the authors' code publishes."""

import numpy as np
import pytest
import torch
from PIL import Image

from botvision.tasks.classification.rand_augment import OPERATIONS, RandAugment

HEIGHT, WIDTH = 170, 220


@pytest.fixture(scope="module")
def pixels():
    """Noise over a gradient, without the extremes of the range, so that contrast can be stretched."""
    noise = np.random.default_rng(0)
    ramp = np.linspace(40, 180, WIDTH)[None, :, None] + np.linspace(0, 30, HEIGHT)[:, None, None]
    return (ramp + noise.integers(0, 30, (HEIGHT, WIDTH, 3))).astype(np.uint8)


def moved(pixels, row, column):
    """Take each pixel from (row, column), arrays of positions; grey where that is outside."""
    inside = (row >= 0) & (row < HEIGHT) & (column >= 0) & (column < WIDTH)
    out = np.full_like(pixels, 128)
    out[inside] = pixels[row[inside], column[inside]]
    return out


def shifted(pixels, rows, columns):
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    return moved(pixels, row + rows, column + columns)


def sheared(pixels, along_rows, along_columns):
    """Pixel centres are at half; the nearest input pixel is taken."""
    row, column = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    return moved(
        pixels, np.floor(row + along_columns * column).astype(int), np.floor(column + along_rows * row).astype(int)
    )


def rotated(pixels, degrees):
    """Counter-clockwise, around the centre."""
    angle, (row, column) = np.radians(degrees), np.mgrid[:HEIGHT, :WIDTH] + 0.5
    y, x = row - HEIGHT / 2, column - WIDTH / 2
    from_x, from_y = np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y
    return moved(pixels, np.floor(from_y + HEIGHT / 2).astype(int), np.floor(from_x + WIDTH / 2).astype(int))


def grey(pixels):
    return (pixels @ np.array([0.299, 0.587, 0.114]))[:, :, None]


def blended(pixels, other, factor):
    return np.clip(other + factor * (pixels - np.asarray(other, float)), 0, 255)


def stretched(pixels):
    low, high = pixels.min((0, 1)).astype(float), pixels.max((0, 1)).astype(float)
    return (pixels - low) * 255 / (high - low)


def equalized(pixels):
    """Each channel through its own cumulative histogram, as PIL and the authors define it."""
    out = np.empty_like(pixels)
    for channel in range(3):
        counts = np.bincount(pixels[..., channel].ravel(), minlength=256)
        step = (counts.sum() - counts[counts > 0][-1]) // 255
        table = (np.concatenate([[0], np.cumsum(counts)[:-1]]) + step // 2) // step
        out[..., channel] = np.clip(table, 0, 255)[pixels[..., channel]]
    return out


# For each operation what it does at magnitude m: rotations in degrees, distances in pixels.
EXPECTED = {
    "AutoContrast": lambda p, m: [stretched(p)],
    "Equalize": lambda p, m: [equalized(p)],
    "Invert": lambda p, m: [255 - p],
    "Rotate": lambda p, m: [rotated(p, sign * 30 * m / 10) for sign in (1, -1)],
    "Posterize": lambda p, m: [p >> (8 - int(m / 10 * 4)) << (8 - int(m / 10 * 4))],
    "Solarize": lambda p, m: [np.where(p < int(m / 10 * 256), p, 255 - p)],
    "SolarizeAdd": lambda p, m: [np.where(p < 128, np.minimum(p.astype(int) + int(m / 10 * 110), 255), p)],
    "Color": lambda p, m: [blended(p, grey(p), 0.1 + 1.8 * m / 10)],
    "Contrast": lambda p, m: [blended(p, np.full(p.shape, grey(p).mean()), 0.1 + 1.8 * m / 10)],
    "Brightness": lambda p, m: [blended(p, np.zeros(p.shape), 0.1 + 1.8 * m / 10)],
    "ShearX": lambda p, m: [sheared(p, sign * 0.3 * m / 10, 0) for sign in (1, -1)],
    "ShearY": lambda p, m: [sheared(p, 0, sign * 0.3 * m / 10) for sign in (1, -1)],
    "TranslateX": lambda p, m: [shifted(p, 0, sign * int(100 * m / 10)) for sign in (1, -1)],
    "TranslateY": lambda p, m: [shifted(p, sign * int(100 * m / 10), 0) for sign in (1, -1)],
}
SHARPEN = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13


def share_that_differs(found, expected):
    """Of pixels by more than 2 of 255 levels: rounding apart."""
    return (np.abs(found.astype(float) - expected).max(-1) > 2).mean()


@pytest.mark.parametrize("magnitude", [5, 10, 15])
@pytest.mark.parametrize("name", EXPECTED)
def test_an_operation_has_the_published_strength(pixels, name, magnitude):
    found = {np.asarray(apply(name, pixels, magnitude, seed)).tobytes() for seed in range(12)}
    expected = EXPECTED[name](pixels, magnitude)
    assert len(found) == len(expected)
    for result in found:
        image = np.frombuffer(result, np.uint8).reshape(pixels.shape)
        assert min(share_that_differs(image, other) for other in expected) < 0.02  # ties of rounding, in rotations


def apply(name, pixels, magnitude, seed):
    torch.manual_seed(seed)
    return OPERATIONS[name](Image.fromarray(pixels), magnitude / 10)


@pytest.mark.parametrize("magnitude", [5, 10, 15])
def test_sharpness_blends_with_a_smoothed_image(pixels, magnitude):
    padded = np.lib.stride_tricks.sliding_window_view(pixels.astype(float), (3, 3), axis=(0, 1))
    smooth = np.einsum("yxcij,ij->yxc", padded, SHARPEN)
    inner = pixels[1:-1, 1:-1]
    found = np.asarray(apply("Sharpness", pixels, magnitude, 0))[1:-1, 1:-1]
    assert share_that_differs(found, blended(inner, smooth, 0.1 + 1.8 * magnitude / 10)) == 0


@pytest.mark.parametrize(("magnitude", "side"), [(0, 0), (5, 40), (10, 80)])
def test_cutout_covers_a_square_inside_the_image(pixels, magnitude, side):
    sides = set()
    for seed in range(30):
        covered = (np.asarray(apply("Cutout", pixels, magnitude, seed)) != pixels).any(-1)
        rows, columns = covered.any(1).sum(), covered.any(0).sum()
        assert rows <= side and columns <= side
        sides.add((rows, columns))
    assert max(sides) == (side, side)


def test_the_operations_are_the_authors():
    published = {*EXPECTED, "Sharpness", "Cutout"}
    assert set(OPERATIONS) == published
    assert len(published) == 16


def test_half_of_the_operations_are_applied():
    """A chance drawn evenly from 0.2 to 0.8 has a mean of 0.5; Invert alone tells whether it was applied."""
    image = Image.fromarray(np.zeros((8, 8, 3), np.uint8))
    transform = RandAugment(1, 10)
    inverted = 0
    for seed in range(6000):
        torch.manual_seed(seed)
        inverted += np.asarray(transform(image)).min() == 255
    expected = 6000 / 16 * 0.5  # 187.5, standard deviation 13.5
    assert abs(inverted - expected) < 4 * 13.5


def test_the_same_seed_gives_the_same_image(pixels):
    results = []
    for _ in range(2):
        torch.manual_seed(3)
        results.append(np.asarray(RandAugment(4, 10)(Image.fromarray(pixels))))
    assert np.array_equal(*results)
    assert results[0].shape == pixels.shape
