"""A small data set of coloured shapes that hide one another, generated in COCO's layout."""

import json
import shutil
import uuid
from pathlib import Path

import numpy as np
from faster_coco_eval import mask_api_new_cpp as mask_api
from faster_coco_eval.core import mask as coco_mask
from PIL import Image

from botvision.data.shapes import SHAPES, Shape, draw_picture
from botvision.errors import UserError

CATEGORY_IDS = (1, 2, 4, 7, 8, 11)  # gaps, as in COCO
SETTINGS_FILE = "generated.json"
VERSION = 1  # raise it when other settings stay and the pictures change


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
    settings = {"train_images": train_images, "val_images": val_images, "image_size": image_size, "seed": seed}
    for (name, value), least in zip(settings.items(), (1, 1, 32, 0), strict=True):
        if value < least:
            raise UserError(f"{name}: must be at least {least}, not {value}")
    settings["version"] = VERSION
    if _finished(folder, settings):
        return folder
    part = folder.parent / f".{folder.name}-{uuid.uuid4().hex}"
    try:
        _write_split(part, "train", range(train_images), image_size, seed)
        _write_split(part, "val", range(train_images, train_images + val_images), image_size, seed)
        (part / SETTINGS_FILE).write_text(json.dumps(settings), encoding="utf-8")
        try:
            part.rename(folder)
        except OSError:
            if not _finished(folder, settings):  # otherwise another process was faster, with the same result
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _finished(folder: Path, settings: dict[str, int]) -> bool:
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


def _write_split(folder: Path, split: str, indices: range, image_size: int, seed: int) -> None:
    """Write the images of a split, one random stream for each index, and its annotation file."""
    image_folder = folder / f"{split}2017"
    image_folder.mkdir(parents=True)
    images: list[dict] = []
    annotations: list[dict] = []
    for index in indices:
        pixels, shapes = draw_picture(np.random.default_rng([seed, index]), image_size)
        image_id = index + 1
        name = f"{image_id:012}.jpg"
        Image.fromarray(pixels).save(image_folder / name, quality=92)
        height, width = pixels.shape[:2]
        images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        annotations += [_annotation(shape, len(annotations) + n, image_id) for n, shape in enumerate(shapes, start=1)]
    categories = [
        {"id": number, "name": name, "supercategory": "shape"}
        for number, name in zip(CATEGORY_IDS, SHAPES, strict=True)
    ]
    content = {"info": {}, "licenses": [], "images": images, "annotations": annotations, "categories": categories}
    annotation_file = folder / "annotations" / f"instances_{split}2017.json"
    annotation_file.parent.mkdir(exist_ok=True)
    annotation_file.write_text(json.dumps(content), encoding="utf-8")


def _annotation(shape: Shape, number: int, image_id: int) -> dict:
    """COCO's record; the mask as a polygon if that describes it, else as run lengths, compressed for odd numbers."""
    height, width = shape.visible.shape
    segmentation: list | dict
    if shape.whole:
        segmentation = [shape.outline.ravel().round(2).tolist()]
        runs = coco_mask.segmToRle(segmentation, width, height)
    else:
        runs = coco_mask.encode(np.asfortranarray(shape.visible.astype(np.uint8)))
        counts = runs["counts"].decode() if number % 2 else mask_api.toUncompressedRLE([runs])[0]["counts"]
        segmentation = {"size": [height, width], "counts": counts}
    return {
        "id": number,
        "image_id": image_id,
        "category_id": CATEGORY_IDS[shape.kind],
        "segmentation": segmentation,
        "area": float(coco_mask.area(runs)),
        "bbox": [float(value) for value in coco_mask.toBbox(runs)],
        "iscrowd": 0,
    }
