"""Pictures of overlapping shapes, with the exact mask of the visible part of each, for `generated`."""

import colorsys
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

SHAPES = ("circle", "square", "triangle", "star", "ring", "cross")
OBJECTS = (2, 5)  # in a picture, smallest and largest number
DIAMETER = (0.18, 0.5)  # of the circle around a shape, relative to the picture's longer side
ASPECTS = ((1.0, 1.0), (1.0, 0.75), (0.75, 1.0), (1.0, 0.67), (0.67, 1.0))  # height and width
LEAST_VISIBLE = 0.4  # part of a shape's area; people, too, find it hard to name one that is hidden further
TILT = 0.35  # radians from upright, to both sides; a small network learns shapes at any angle far more slowly
OUTSIDE = 0.3  # how far a shape may reach over the border, in radii
SUPERSAMPLING = 4
ATTEMPTS = 20


@dataclass
class Shape:
    """A shape in a picture of H x W pixels."""

    kind: int  # index into SHAPES
    outline: np.ndarray  # (P, 2), x and y in pixels
    coverage: np.ndarray  # (H, W) float32, 0 to 1: how much of each pixel it fills
    visible: np.ndarray  # (H, W) bool: what no later shape hides

    @property
    def whole(self) -> bool:
        """Whether the outline describes the visible part: no hole, nothing hidden, nothing over the border."""
        height, width = self.coverage.shape
        inside = (self.outline >= 0).all() and (self.outline <= (width, height)).all()
        return bool(inside) and SHAPES[self.kind] != "ring" and np.array_equal(self.visible, self.coverage > 0.5)


def draw_picture(rng: np.random.Generator, longer_side: int) -> tuple[np.ndarray, list[Shape]]:
    """A picture (H, W, 3) uint8, longer side in pixels as given, and its shapes from the back to the front."""
    height, width = (round(longer_side * side) for side in ASPECTS[rng.integers(len(ASPECTS))])
    shapes: list[Shape] = []
    for _ in range(rng.integers(OBJECTS[0], OBJECTS[1] + 1)):
        _place(rng, shapes, height, width)
    pixels = _background(rng, height, width)
    hue = rng.random()
    for shape in shapes:
        hue += 0.381966  # the golden angle: no two shapes of a picture get the same colour
        colour = colorsys.hsv_to_rgb(hue % 1, rng.uniform(0.65, 1), rng.uniform(0.65, 1))
        texture = rng.normal(0, 8, (height, width, 1))
        alpha = shape.coverage[:, :, None]
        pixels = pixels * (1 - alpha) + (255 * np.array(colour) + texture) * alpha
    return pixels.clip(0, 255).astype(np.uint8), shapes


def _place(rng: np.random.Generator, shapes: list[Shape], height: int, width: int) -> None:
    """Put one more shape in front, where enough of all others stays visible; none where it finds no such place."""
    for _ in range(ATTEMPTS):
        new = _random_shape(rng, height, width)
        left = [shape.visible & ~new.visible for shape in shapes]
        if all(seen.sum() >= LEAST_VISIBLE * (s.coverage > 0.5).sum() for s, seen in zip(shapes, left, strict=True)):
            for shape, seen in zip(shapes, left, strict=True):
                shape.visible = seen
            shapes.append(new)
            return


def _random_shape(rng: np.random.Generator, height: int, width: int) -> Shape:
    kind = int(rng.integers(len(SHAPES)))
    radius = rng.uniform(*DIAMETER) * max(height, width) / 2
    margin = (1 - OUTSIDE) * radius
    centre = np.array([rng.uniform(margin, width - margin), rng.uniform(margin, height - margin)])
    outline = centre + radius * _unit_outline(SHAPES[kind], rng.uniform(-TILT, TILT))
    hole = centre + 0.55 * (outline - centre) if SHAPES[kind] == "ring" else None
    coverage = _coverage(outline, hole, height, width)
    return Shape(kind, outline, coverage, coverage > 0.5)


def _unit_outline(name: str, angle: float) -> np.ndarray:
    """Corners (P, 2) of a shape that just fits a circle of radius 1, turned by `angle` radians from upright."""
    if name == "cross":
        arm = 0.3  # half its breadth
        quarter = np.array([[arm, 0.95], [-arm, 0.95], [-arm, arm]])
        return np.concatenate([quarter @ _rotation(angle + turn * np.pi / 2) for turn in range(4)])
    points = {"circle": 40, "ring": 40, "square": 4, "triangle": 3, "star": 10}[name]
    upright = np.pi / 4 if name == "square" else -np.pi / 2  # a side below; a corner above, as y points down
    directions = angle + upright + 2 * np.pi * np.arange(points) / points
    corners = np.stack([np.cos(directions), np.sin(directions)], axis=1)
    if name == "star":
        corners[1::2] *= 0.42
    return corners


def _rotation(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def _coverage(outline: np.ndarray, hole: np.ndarray | None, height: int, width: int) -> np.ndarray:
    """How much of each pixel lies inside the outline and outside the hole: (height, width) float32, 0 to 1."""
    fine = Image.new("L", (width * SUPERSAMPLING, height * SUPERSAMPLING))
    pen = ImageDraw.Draw(fine)
    for corners, value in ((outline, 255), (hole, 0)):
        if corners is not None:
            # Pillow counts from the middle of the first pixel, COCO from its edge.
            pen.polygon((corners * SUPERSAMPLING - 0.5).ravel().tolist(), fill=value)
    return np.asarray(fine.reduce(SUPERSAMPLING), dtype=np.float32) / 255


def _background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A grey background with blotches and noise: (height, width, 3) float, 0 to 255."""
    blotches = rng.normal(0, 25, (rng.integers(3, 9), rng.integers(3, 9), 1)) + rng.normal(0, 10, (1, 1, 3))
    channels = [
        np.asarray(
            Image.fromarray(blotches[:, :, c].astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
        )
        for c in range(3)
    ]
    return rng.uniform(60, 190) + np.stack(channels, axis=2) + rng.normal(0, 10, (height, width, 3))
