"""Scenes in which the class of an object is the colour of a cue elsewhere in the image, drawn and written."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from botvision.data.generated import write_coco
from botvision.data.scene_kinds import COLOURS, DIRECTIONS, RADIUS, SCENES, VERSION, SceneKind


class Scene(NamedTuple):
    """An image and what is in it."""

    pixels: np.ndarray
    """(H, W, 3) uint8."""
    object: tuple[int, int]
    """Its middle pixel: x, y."""
    cues: list[tuple[int, int]]
    """Their middle pixels; of four in the order of ``DIRECTIONS``."""
    colours: list[int]
    """Of the cues, as indices into ``COLOURS``."""

    @property
    def label(self) -> int:
        """Class of the object: the colour of the one cue, or of the left one."""
        return self.colours[0]


def draw_scene(kind: SceneKind, rng: np.random.Generator) -> Scene:
    """A random scene: grey noise, a white square, and cues whose colours are drawn independently."""
    size = kind.image_size
    middle, cues = places_of_four(kind, rng) if kind.four_cues else places_of_two(kind, rng)
    colours = rng.integers(len(COLOURS), size=len(cues)).tolist()
    grey = 110 + 12 * rng.standard_normal((size, size, 1), dtype=np.float32)
    pixels = np.repeat(grey.clip(0, 255).astype(np.uint8), 3, axis=2)
    rgb = list(COLOURS.values())
    for (x, y), colour in zip((middle, *cues), ((255, 255, 255), *(rgb[index] for index in colours)), strict=True):
        pixels[y - RADIUS : y + RADIUS + 1, x - RADIUS : x + RADIUS + 1] = colour
    return Scene(pixels, middle, cues, colours)


def places_of_four(kind: SceneKind, rng: np.random.Generator) -> tuple[tuple[int, int], list[tuple[int, int]]]:
    """The object in the middle, and a cue in each direction."""
    middle = kind.image_size // 2
    along = rng.integers(kind.distance[0], kind.distance[1], len(DIRECTIONS), endpoint=True).tolist()
    across = rng.integers(-kind.sideways, kind.sideways, len(DIRECTIONS), endpoint=True).tolist()
    cues = [
        (middle + dx * far + abs(dy) * off, middle + dy * far + abs(dx) * off)
        for (dx, dy), far, off in zip(DIRECTIONS, along, across, strict=True)
    ]
    return (middle, middle), cues


def places_of_two(kind: SceneKind, rng: np.random.Generator) -> tuple[tuple[int, int], list[tuple[int, int]]]:
    """The object and its cue anywhere in the image, far enough apart."""
    while True:
        (x, y), (cue_x, cue_y) = rng.integers(RADIUS, kind.image_size - RADIUS, (2, 2)).tolist()
        if max(abs(x - cue_x), abs(y - cue_y)) >= kind.distance[0]:
            return (x, y), [(cue_x, cue_y)]


def write_context_coco(folder: Path, *, scene: str, train_images: int, val_images: int, seed: int) -> Path:
    """Write scenes in COCO's layout, with a box and no mask for the object alone; cues are background.

    Args:
        folder: must not exist, be empty, or come from the same settings.
        scene: a name in :data:`SCENES`.
        train_images, val_images: how many images, at least 1 each.
        seed: of everything random, at least 0.

    Returns:
        `folder`.

    Raises:
        UserError: a setting is out of range, or the folder holds something else.
    """
    settings = {"scene": scene, "train_images": train_images, "val_images": val_images, "seed": seed}
    categories = [{"id": number, "name": name} for number, name in enumerate(COLOURS, start=1)]
    return write_coco(folder, {**settings, "version": VERSION}, categories, partial(draw_annotated, SCENES[scene]))


def draw_annotated(kind: SceneKind, rng: np.random.Generator, number: int) -> tuple[np.ndarray, list[dict]]:
    """A scene and COCO's record of its object, with that number."""
    scene = draw_scene(kind, rng)
    side = 2 * RADIUS + 1
    box = [float(scene.object[0] - RADIUS), float(scene.object[1] - RADIUS), float(side), float(side)]
    record = {"id": number, "category_id": scene.label + 1, "bbox": box, "area": float(side**2), "iscrowd": 0}
    return scene.pixels, [record]
