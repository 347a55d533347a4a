"""Small data sets of squares, and of figures with keypoints."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from botvision.data import CocoDetection


@pytest.fixture
def write_squares(tmp_path: Path) -> Callable[..., CocoDetection]:
    """Writes a split of one image of 200 x 200 pixels with the annotations, and reads it."""

    def write(
        annotations: list[dict] | None,
        split: str = "train",
        *,
        masks: bool = True,
        names: list[str] = ("thing",),
        ids=1,
    ) -> CocoDetection:
        categories = [{"id": n, "name": name} for n, name in enumerate(names, start=1)]
        image = {"id": ids, "file_name": "a.png", "height": 200, "width": 200}
        categories[0]["id"] = ids
        content = {"images": [image], "categories": categories}
        if annotations is not None:
            content["annotations"] = [{"id": n, **entry} for n, entry in enumerate(annotations)]
        file = tmp_path / "annotations" / f"instances_{split}.json"
        for folder in (file.parent, tmp_path / split):
            folder.mkdir(exist_ok=True)
        file.write_text(json.dumps(content))
        Image.fromarray(np.zeros((200, 200, 3), np.uint8)).save(tmp_path / split / "a.png")
        return CocoDetection(tmp_path, split, masks=masks)

    return write


KEYPOINTS = ("head", "left_hand", "right_hand")
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
CATEGORY = {"id": 4, "name": "figure", "keypoints": list(KEYPOINTS), "skeleton": [[1, 2], [1, 3]]}


def figure(rng: np.random.Generator, side: int, dot: int) -> tuple[Image.Image, dict]:
    """A white figure on grey with dots of (2 * dot + 1) pixels, and its annotation."""
    picture = Image.new("RGB", (side, side), (90, 90, 90))
    draw = ImageDraw.Draw(picture)
    width, height = rng.integers(side // 3, side // 2, size=2).tolist()
    x, y = (int(rng.integers(dot, side - length - dot)) for length in (width, height))
    points = [(x + int(rng.integers(width // 4, width * 3 // 4)), y), (x, y + height), (x + width, y + height)]
    draw.polygon(points, fill="white")
    for (px, py), colour in zip(points, COLOURS, strict=True):
        draw.rectangle((px - dot, py - dot, px + dot, py + dot), fill=colour)
    box = [x - dot, y - dot, width + 2 * dot + 1, height + 2 * dot + 1]
    keypoints = [value for place in points for value in (*place, 2)]
    return picture, {"category_id": 4, "bbox": box, "keypoints": keypoints, "num_keypoints": 3, "iscrowd": 0}


@pytest.fixture(scope="session")
def draw_figure() -> Callable[..., tuple[Image.Image, dict]]:
    """Draws a figure whose keypoints are dots of their own colours, so that a picture says where they are."""
    return figure


@pytest.fixture(scope="session")
def write_figures() -> Callable[..., Path]:
    """Writes a data set of such figures."""

    def write(folder: Path, images: int, side: int = 64, dot: int = 2) -> Path:
        """Both splits of a data set in COCO's layout, with the same images."""
        rng = np.random.default_rng(0)
        (folder / "annotations").mkdir(parents=True)
        content = {"categories": [CATEGORY], "images": [], "annotations": []}
        pictures = {}
        for number in range(1, images + 1):
            pictures[f"{number}.png"], annotation = figure(rng, side, dot)
            content["images"].append({"id": number, "file_name": f"{number}.png", "height": side, "width": side})
            content["annotations"].append({"id": number, "image_id": number, **annotation})
        for split in ("train", "val"):
            (folder / split).mkdir()
            for name, picture in pictures.items():
                picture.save(folder / split / name)
            (folder / "annotations" / f"person_keypoints_{split}.json").write_text(json.dumps(content))
        return folder

    return write
