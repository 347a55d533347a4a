"""Small data sets of squares."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
