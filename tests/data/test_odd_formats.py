"""Other tools' formats: files that are odd, but that the tools write or read."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

NAMES = "train: images/train\nnames: [cat, dog]\n"


def picture(path: Path, size: tuple[int, int] = (200, 100)) -> None:
    """An image, by default 200 wide and 100 high."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 90, 90)).save(path)


def yolo(folder: Path, label: str, settings: str = NAMES, image: str = "images/train/x.jpg") -> Path:
    """An image, its label file, and a YAML file."""
    picture(folder / image)
    text = (folder / image.replace("images/", "labels/", 1)).with_suffix(".txt")
    text.parent.mkdir(parents=True, exist_ok=True)
    text.write_text(label)
    (folder / "data.yaml").write_text(settings)
    return folder


@pytest.fixture
def export(tmp_path) -> Path:
    (tmp_path / "export").mkdir()
    return tmp_path / "export"


@pytest.fixture
def converted(run, export, tmp_path):
    """The content of a split after `botvision data convert`."""

    def convert(split: str = "train") -> dict[str, Any]:
        if not (tmp_path / "coco").exists():
            status, _, err = run("data", "convert", export, "--out", tmp_path / "coco")
            assert status == 0, err
        return json.loads((tmp_path / "coco" / "annotations" / f"instances_{split}.json").read_text())

    return convert


@pytest.mark.parametrize("shape", [(4, 2), (4, 3), (17, 3), (1, 2), (5, 2)])
def test_a_line_of_yolo_with_keypoints_is_its_box(export, converted, caplog, shape):
    points = " ".join(["0.4 0.4 2" if shape[1] == 3 else "0.4 0.4"] * shape[0])
    yolo(export, f"1 0.5 0.5 0.5 0.4 {points}\n", f"{NAMES}kpt_shape: {list(shape)}\n")
    (found,) = converted()["annotations"]
    assert found["bbox"] == [50, 30, 100, 40]
    assert not found.get("segmentation")
    assert "kpt_shape" in caplog.text


@pytest.mark.parametrize(
    ("label", "shape", "named"),
    [
        ("0 0.5 0.5 0.5 0.5 0.4 0.4 0.6 0.4", "[4, 2]", ["x.txt: line 1", "kpt_shape", "8 values", "9 values"]),
        ("0 0.5 0.5 0.5 0.5", "4", ["data.yaml", "'kpt_shape'"]),
        ("0 0.5 0.5 0.5 0.5", "[4, 5]", ["data.yaml", "'kpt_shape'"]),
        ("0 0.5 0.5 0.5 0.5", "[true, 2]", ["data.yaml", "'kpt_shape'"]),
    ],
)
def test_keypoints_of_yolo_that_are_wrong_are_refused(export, refusal, tmp_path, label, shape, named):
    line = refusal("data", "convert", yolo(export, label, f"{NAMES}kpt_shape: {shape}\n"), "--out", tmp_path / "coco")
    for part in named:
        assert part in line
