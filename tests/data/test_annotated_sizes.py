"""The sizes that annotations give for their images: what converts refuses what the check and training refuse."""

import json
from pathlib import Path

import pytest
from PIL import Image

VOC_SIZE = "<size><width>{}</width><height>{}</height></size>"
VOC_OBJECT = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"


def annotate(folder: Path, tool: str, name: str, width: int, height: int) -> None:
    """A box on an image, and the size that the image is said to have."""
    if tool == "voc":
        size = VOC_SIZE.format(width, height)
        text = f"<annotation>{size}<object><name>cat</name>{VOC_OBJECT}</object></annotation>"
        (folder / "x.xml").write_text(text)
    else:
        shape = {"label": "cat", "points": [[1, 1], [9, 9]], "shape_type": "rectangle"}
        about = {"shapes": [shape], "imagePath": name, "imageHeight": height, "imageWidth": width}
        (folder / "x.json").write_text(json.dumps(about))


@pytest.mark.parametrize("tool", ["labelme", "voc"])
def test_an_image_of_another_size_is_refused(export, run, refusal, tmp_path, tool):
    Image.new("RGB", (20, 40)).save(export / "x.png")
    annotate(export, tool, "x.png", 40, 20)
    assert "x.png" in refusal("data", "convert", export, "--out", tmp_path / "new")
    assert run("data", "check", export)[0] == 2


@pytest.mark.parametrize("words", [("convert", "."), ("split", "annotations/instances_train2017.json")])
def test_an_image_of_another_size_is_refused_in_coco_too(write_coco, refusal, tmp_path, words):
    folder = write_coco()
    Image.new("RGB", (10, 20)).save(folder / "train2017" / "a.png")
    assert "a.png" in refusal("data", words[0], folder / words[1], "--out", tmp_path / "new")


@pytest.mark.parametrize(
    ("suffix", "is_upright"), [("jpg", True), ("jpg", False), ("png", True), ("png", False), ("tif", True)]
)
def test_an_image_with_a_rotation_mark_may_be_annotated_either_way(export, converted, suffix, is_upright):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(export / f"x.{suffix}", exif=exif)
    annotate(export, "labelme", f"x.{suffix}", *((20, 40) if is_upright else (40, 20)))
    assert len(converted()["annotations"]) == 1
