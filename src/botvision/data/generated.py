"""A small data set of coloured shapes that hide one another, generated in COCO's layout."""

import json
import shutil
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from hotcoco import mask as coco_mask
from PIL import Image

from botvision.data.masks import run_lengths
from botvision.data.shapes import SHAPES, Shape, draw_picture
from botvision.errors import UserError

CATEGORY_IDS = (1, 2, 4, 7, 8, 11)  # gaps, as in COCO
SETTINGS_FILE = "generated.json"
VERSION = 1  # raise it when other settings stay and the pictures change
LEAST_SIDE = 32

Draw = Callable[[np.random.Generator, int], tuple[np.ndarray, list[dict]]]
"""Makes an image (H, W, 3) uint8 and COCO's records of its objects, numbered from the given number on."""


def write_generated_coco(folder: Path, *, train_images: int, val_images: int, image_size: int, seed: int) -> Path:
    """Write `train2017/`, `val2017/` and `annotations/instances_*2017.json` with images of shapes to segment.

    The same settings give the same bytes. A folder that was finished with the same settings is left as it is; the
    folder appears under its name only when it is complete.

    Args:
        folder: must not exist, be empty, or come from the same settings.
        train_images, val_images: how many images, at least 1 each.
        image_size: longer side of the images in pixels, at least 32.
        seed: of everything random, at least 0.

    Returns:
        `folder`.

    Raises:
        UserError: a setting is out of range, or the folder holds something else.
    """
    if image_size < LEAST_SIDE:
        raise UserError(f"image_size: must be at least {LEAST_SIDE}, not {image_size}")
    settings = {"train_images": train_images, "val_images": val_images, "image_size": image_size, "seed": seed}
    categories = [
        {"id": number, "name": name, "supercategory": "shape"}
        for number, name in zip(CATEGORY_IDS, SHAPES, strict=True)
    ]
    return write_coco(folder, {**settings, "version": VERSION}, categories, partial(_draw, image_size))


def write_coco(folder: Path, settings: Mapping[str, Any], categories: list[dict], draw: Draw) -> Path:
    """Write drawings in COCO's layout, with a random stream of its own for each image.

    Args:
        folder: must not exist, be empty, or come from the same settings.
        settings: all that decides the content, ``train_images``, ``val_images`` and ``seed`` among it.
        categories: COCO's records of them.
        draw: makes an image and its objects.

    Returns:
        `folder`.

    Raises:
        UserError: a setting is out of range, or the folder holds something else.
    """
    for name, least in (("train_images", 1), ("val_images", 1), ("seed", 0)):
        if settings[name] < least:
            raise UserError(f"{name}: must be at least {least}, not {settings[name]}")
    if _finished(folder, settings):
        return folder
    part = folder.parent / f".{folder.name}-{uuid.uuid4().hex}"
    try:
        first, end = settings["train_images"], settings["train_images"] + settings["val_images"]
        _write_split(part, "train", range(first), settings["seed"], categories, draw)
        _write_split(part, "val", range(first, end), settings["seed"], categories, draw)
        (part / SETTINGS_FILE).write_text(json.dumps(settings), encoding="utf-8")
        try:
            part.rename(folder)
        except OSError:
            if not _finished(folder, settings):  # otherwise another process was faster, with the same result
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _finished(folder: Path, settings: Mapping[str, Any]) -> bool:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    try:
        same = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8")) == settings
    except (OSError, ValueError):
        same = False
    if not same:
        raise UserError(
            f"{folder}: holds something other than this generated data set; delete it or name another folder"
        )
    return True


def _write_split(folder: Path, split: str, indices: range, seed: int, categories: list[dict], draw: Draw) -> None:
    """Write the images of a split, one random stream for each index, and its annotation file."""
    image_folder = folder / f"{split}2017"
    image_folder.mkdir(parents=True)
    images: list[dict] = []
    annotations: list[dict] = []
    for index in indices:
        pixels, records = draw(np.random.default_rng([seed, index]), len(annotations) + 1)
        image_id = index + 1
        name = f"{image_id:012}.jpg"
        Image.fromarray(pixels).save(image_folder / name, quality=92)
        height, width = pixels.shape[:2]
        images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        annotations += [{**record, "image_id": image_id} for record in records]
    content = {"info": {}, "licenses": [], "images": images, "annotations": annotations, "categories": categories}
    annotation_file = folder / "annotations" / f"instances_{split}2017.json"
    annotation_file.parent.mkdir(exist_ok=True)
    annotation_file.write_text(json.dumps(content), encoding="utf-8")


def _draw(image_size: int, rng: np.random.Generator, number: int) -> tuple[np.ndarray, list[dict]]:
    pixels, shapes = draw_picture(rng, image_size)
    return pixels, [_annotation(shape, number + index) for index, shape in enumerate(shapes)]


def _annotation(shape: Shape, number: int) -> dict:
    """COCO's record; the mask as a polygon if that describes it, else as run lengths, compressed for odd numbers."""
    height, width = shape.visible.shape
    segmentation: list | dict
    if shape.whole:
        segmentation = [shape.outline.ravel().round(2).tolist()]
        runs = run_lengths(segmentation, height, width)
    else:
        runs = coco_mask.encode(np.asfortranarray(shape.visible.astype(np.uint8)))
        counts = runs["counts"].decode() if number % 2 else plain_counts(shape.visible)
        segmentation = {"size": [height, width], "counts": counts}
    return {
        "id": number,
        "category_id": CATEGORY_IDS[shape.kind],
        "segmentation": segmentation,
        "area": float(coco_mask.area(runs)),
        "bbox": [float(value) for value in coco_mask.toBbox(runs)],
        "iscrowd": 0,
    }


def plain_counts(mask: np.ndarray) -> list[int]:
    """Run lengths of a mask (H, W) in COCO's form without compression: pixels of 0, of 1, of 0, ..., by columns."""
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat.astype(np.int8), prepend=0))
    return np.diff(edges, prepend=0, append=flat.size).tolist()
