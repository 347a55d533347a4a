"""Other tools' formats, from files made by hand as their documentation shows them."""

import base64
import json
import logging
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from botvision.data import CocoDetection
from botvision.data.formats import find_format

SIDE = (50, 100)
"""Height and width of every image."""


def picture(path: Path, value: int = 90) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIDE[::-1], (value, value, value)).save(path)


def yolo(folder: Path) -> None:
    """Two splits; a box, a polygon, a blank line, an image without a label file, Roboflow's spelling of the folders."""
    (folder / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnc: 2\nnames: ['cat', 'dog']\n")
    for split in ("train", "valid"):
        picture(folder / split / "images" / "a.jpg")
        (folder / split / "labels").mkdir()
    picture(folder / "train" / "images" / "b.jpg")
    (folder / "train" / "labels" / "a.txt").write_text("0 0.25 0.5 0.3 0.4\n\n1 0.1 0.2 0.3 0.2 0.3 0.6 0.1 0.6\n")
    (folder / "valid" / "labels" / "a.txt").write_text("1 0.5 0.5 1 1\n")


def darknet(folder: Path) -> None:
    """CVAT's export "YOLO 1.1"."""
    (folder / "obj.names").write_text("cat\ndog\n")
    for split, line in (("train", "0 0.25 0.5 0.3 0.4\n1 0.2 0.4 0.2 0.4\n"), ("valid", "1 0.5 0.5 1 1\n")):
        picture(folder / f"obj_{split}_data" / "a.jpg")
        (folder / f"obj_{split}_data" / "a.txt").write_text(line)


VOC_OBJECT = """<object><name>{}</name><pose>Unspecified</pose><difficult>0</difficult>
<part><name>head</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>3</xmax><ymax>3</ymax></bndbox></part>
<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"""


def voc_xml(*objects: tuple) -> str:
    """Corners are counted from 1, and the last pixel belongs to the box."""
    body = "".join(VOC_OBJECT.format(*one) for one in objects)
    size = "<size><width>100</width><height>50</height><depth>3</depth></size>"
    return f"<annotation><folder>VOC2012</folder><filename>a.jpg</filename>{size}{body}</annotation>"


def voc(folder: Path) -> None:
    """VOC2012's folders."""
    for name, objects in (("a", [("cat", 11, 16, 40, 35), ("dog", 11, 11, 30, 30)]), ("c", [("dog", 1, 1, 100, 50)])):
        picture(folder / "JPEGImages" / f"{name}.jpg")
        (folder / "Annotations").mkdir(exist_ok=True)
        (folder / "Annotations" / f"{name}.xml").write_text(voc_xml(*objects))
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    (folder / "ImageSets" / "Main" / "train.txt").write_text("a\n")
    (folder / "ImageSets" / "Main" / "val.txt").write_text("c\n")


def labelme(folder: Path) -> None:
    """A rectangle from any corner to the opposite one, and an object of two polygons in a group."""

    def written(split: str, *shapes: dict) -> None:
        picture(folder / split / "a.jpg")
        about = {"version": "5.4.1", "flags": {}, "shapes": [{"flags": {}, "group_id": None, **one} for one in shapes]}
        about |= {"imagePath": "a.jpg", "imageData": None, "imageHeight": 50, "imageWidth": 100}
        (folder / split / "a.json").write_text(json.dumps(about))

    left = {"label": "dog", "points": [[10, 10], [20, 10], [20, 30], [10, 30]], "shape_type": "polygon", "group_id": 1}
    right = {**left, "points": [[20, 10], [30, 10], [30, 30], [20, 30]]}
    point = {"label": "dog", "points": [[1, 1]], "shape_type": "point"}
    cat = {"label": "cat", "points": [[40, 15], [10, 35]], "shape_type": "rectangle"}
    written("train", cat, left, right, point)
    written("val", {"label": "dog", "points": [[0, 0], [100, 50]], "shape_type": "rectangle"})


def cvat(folder: Path) -> None:
    """CVAT for images 1.1, with subsets."""
    for subset in ("Train", "Validation"):
        picture(folder / "images" / subset / "a.jpg")
    (folder / "annotations.xml").write_text(
        """<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version><meta><task><id>1</id></task></meta>
        <image id="0" name="a.jpg" subset="Train" width="100" height="50">
          <box label="cat" source="manual" occluded="0" xtl="10.00" ytl="15.00" xbr="40.00" ybr="35.00" z_order="0"/>
          <polygon label="dog" occluded="0" points="10.00,10.00;30.00,10.00;30.00,30.00;10.00,30.00" z_order="0"/>
          <tag label="cat" source="manual"/>
        </image><image id="1" name="a.jpg" subset="Validation" width="100" height="50">
          <box label="dog" occluded="0" xtl="0" ytl="0" xbr="100" ybr="50" z_order="0"/></image></annotations>"""
    )


def via(folder: Path) -> None:
    """VIA 2's project, and the regions of VIA 1, which are numbered."""
    regions = [
        {
            "shape_attributes": {"name": "rect", "x": 10, "y": 15, "width": 30, "height": 20},
            "region_attributes": {"class": "cat"},
        },
        {
            "shape_attributes": {"name": "polygon", "all_points_x": [10, 30, 30, 10], "all_points_y": [10, 10, 30, 30]},
            "region_attributes": {"class": {"dog": True}},
        },
        {"shape_attributes": {"name": "point", "cx": 1, "cy": 1}, "region_attributes": {"class": "cat"}},
    ]
    whole = {
        "shape_attributes": {"name": "rect", "x": 0, "y": 0, "width": 100, "height": 50},
        "region_attributes": {"class": "dog"},
    }
    picture(folder / "train" / "a.jpg")
    picture(folder / "val" / "images" / "a.jpg")
    entry = {"filename": "a.jpg", "size": 825, "file_attributes": {}}
    project = {"_via_settings": {}, "_via_img_metadata": {"a.jpg825": {**entry, "regions": regions}}}
    (folder / "train" / "via_project.json").write_text(json.dumps(project))
    (folder / "val" / "via.json").write_text(json.dumps({"a.jpg825": {**entry, "regions": {"0": whole}}}))


FORMATS = {"yolo": yolo, "darknet": darknet, "voc": voc, "labelme": labelme, "cvat": cvat, "via": via}
WITH_OUTLINE = ("yolo", "labelme", "cvat", "via")


@pytest.fixture
def written(tmp_path):
    """Writes an export in a format; gives its folder."""

    def write(name: str) -> Path:
        (tmp_path / "export").mkdir()
        FORMATS[name](tmp_path / "export")
        return tmp_path / "export"

    return write


def objects(folder: Path, split: str) -> list[tuple]:
    """(class, box, area of the mask) of each object of the first image."""
    dataset = CocoDetection(folder, split)
    _, target = next(item for item in dataset if len(item[1]["labels"]))
    masks = target["masks"].sum(dim=(1, 2)).tolist()
    names = [dataset.categories[label - 1].name for label in target["labels"].tolist()]
    return sorted(zip(names, target["boxes"].round().int().tolist(), masks, strict=True))


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_is_trained_on_as_it_is_and_converted_to_the_same(written, run, tmp_path, caplog, name):
    folder = written(name)
    with caplog.at_level(logging.INFO, "botvision"):
        read = {split: objects(folder, split) for split in ("train", "val")}
    outlined = 400 if name in WITH_OUTLINE else 0
    assert read["train"] == [("cat", [10, 15, 40, 35], 0), ("dog", [10, 10, 30, 30], outlined)]
    assert read["val"] == [("dog", [0, 0, 100, 50], 0)]
    said = {"darknet": "YOLO", "voc": "Pascal VOC", "labelme": "LabelMe"}.get(name, name.upper())
    assert said in caplog.text
    status, _, err = run("data", "convert", folder, "--out", tmp_path / "coco")
    assert status == 0, err
    assert said in err
    assert {split: objects(tmp_path / "coco", split) for split in read} == read
    chosen = {"darknet": "yolo"}.get(name, name)
    assert run("data", "convert", folder, "--from", chosen, "--out", tmp_path / "again")[0] == 0
    assert run("data", "check", folder, "--pictures", 1)[0] == 0


@pytest.mark.parametrize(("name", "missing"), [("labelme", "val"), ("via", "val")])
def test_an_export_without_a_val_split_says_how_to_make_one(written, refusal, run, tmp_path, tiny_flags, name, missing):
    (written(name) / missing).rename(tmp_path / "elsewhere")
    line = refusal("train", "small/botnet50", *tiny_flags, "--data", tmp_path / "export", "--detector", "faster_rcnn")
    assert "botvision data split" in line
    assert run("data", "convert", tmp_path / "export", "--out", tmp_path / "coco")[0] == 0
    assert objects(tmp_path / "coco", "train")


@pytest.mark.parametrize(
    "layout", ["valid/_annotations.coco.json", "result.json", "annotations/instances_default.json"]
)
def test_exports_in_coco_format_are_converted(run, write_coco, content, tmp_path, layout):
    """Roboflow's, Label Studio's with images named images/..., and CVAT's."""
    folder = write_coco("train2017")
    export = tmp_path / "export"
    split = layout.split("/")[0] if "valid" in layout else "default" if "default" in layout else ""
    images = export / split if "valid" in layout else export / "images" / split
    images.parent.mkdir(parents=True)
    (folder / "train2017").rename(images)
    if layout == "result.json":
        for image in content["images"]:
            image["file_name"] = f"images/{image['file_name']}"
    (export / layout).parent.mkdir(exist_ok=True)
    (export / layout).write_text(json.dumps(content))
    if split == "valid":
        images.rename(export / "train")
    tool = {"valid": "roboflow", "default": "cvat", "": "labelstudio"}[split]
    status, _, err = run("data", "convert", export, "--from", tool, "--out", tmp_path / "coco")
    assert status == 0, err
    dataset = CocoDetection(tmp_path / "coco", "train")
    assert [image.id for image in dataset.images] == [7, 5]
    assert dataset.objects == dataset.objects_with_mask == 2


def test_shapes_that_are_round_turned_or_drawn_cover_what_they_should(tmp_path):
    folder = tmp_path
    picture(folder / "a.png")
    drawn = np.zeros((8, 6), np.uint8)
    drawn[2:6, 1:5] = 255
    encoded = BytesIO()
    Image.fromarray(drawn).save(encoded, "PNG")
    shapes = [
        {"label": "circle", "points": [[50, 25], [60, 25]], "shape_type": "circle"},
        {
            "label": "mask",
            "points": [[3, 4], [8, 11]],
            "shape_type": "mask",
            "mask": base64.b64encode(encoded.getvalue()).decode(),
        },
    ]
    (folder / "a.json").write_text(json.dumps({"shapes": shapes, "imagePath": "a.png"}))
    (_, _, round_area), (_, box, area) = objects(folder, "train")
    assert abs(round_area - np.pi * 100) < 8
    assert (box, area) == ([4, 6, 8, 10], 16)
    (folder / "a.json").unlink()
    (folder / "annotations.xml").write_text(
        """<annotations><image id="0" name="a.png" width="100" height="50">
        <box label="turned" xtl="40" ytl="20" xbr="60" ybr="30" rotation="90.0"/>
        <ellipse label="ellipse" cx="20" cy="20" rx="10" ry="5"/>
        <mask label="mask" rle="7,4,2,4,2,4,2,4,19" left="3" top="4" width="6" height="8"/></image></annotations>"""
    )
    ellipse, mask, turned = objects(folder, "train")
    assert abs(ellipse[2] - np.pi * 50) < 8
    assert mask[1:] == ([4, 5, 8, 9], 16)
    assert turned[1:] == ([45, 15, 55, 35], 200)


BAD = {
    "yolo": [
        ("train/labels/a.txt", "2 0.5 0.5 0.1 0.1", ["a.txt: line 1", "'class'"]),
        ("train/labels/a.txt", "\n0 0.5 0.5 0.1", ["a.txt: line 2", "4 values"]),
        ("train/labels/a.txt", "0 0.5 nan 0.1 0.1", ["line 1", "finite"]),
        ("train/labels/a.txt", "0 50 20 30 20", ["line 1", "shares"]),
        ("data.yaml", "train: train/images\nnames: 5\n", ["data.yaml", "'names'"]),
        ("data.yaml", "train: ../../elsewhere/images\nnames: [cat]\n", ["data.yaml", "'train'"]),
        ("data.yaml", "train: &a train/images\nval: *a\nnames: [cat]\n", ["data.yaml", "aliases"]),
    ],
    "voc": [
        ("Annotations/a.xml", voc_xml(("cat", 1, 1, "x", 9)), ["a.xml", "object[0]", "'xmax'"]),
        ("Annotations/a.xml", "<annotation><object>", ["a.xml", "XML"]),
        ("Annotations/a.xml", '<!DOCTYPE a [<!ENTITY b "c">]><annotation></annotation>', ["a.xml", "DOCTYPE"]),
        ("ImageSets/Main/train.txt", "a\nmissing\n", ["missing.xml", "train.txt"]),
    ],
    "labelme": [
        ("train/a.json", '{"shapes": 3}', ["a.json", "'shapes'"]),
        ("train/a.json", '{"shapes": [{"label": 5}], "imageHeight": 1, "imageWidth": 1}', ["shapes[0]", "'label'"]),
        ("train/b.json", '{"shapes": [], "imagePath": "../../secret.png"}', ["b.json", "'imagePath'", ".."]),
        ("train/b.json", '{"shapes": [], "imagePath": "/etc/secret.png"}', ["b.json", "'imagePath'"]),
        ("train/a.json", '{"shapes": [{"label": "a", "points": [[1, 2]], "shape_type": "circle"}]}', ["a.json", "2"]),
        (
            "train/a.json",
            '{"shapes": [{"label": "a", "points": [[1, 2]], "shape_type": "star"}]}',
            ["shapes[0]", "'shape_type'", "star"],
        ),
    ],
    "cvat": [
        ("annotations.xml", "<annotations><image name='a.jpg' width='1'/></annotations>", ["image[0]", "'height'"]),
        (
            "annotations.xml",
            "<annotations><image name='../../a.jpg' width='9' height='9'/></annotations>",
            ["image[0]", "'name'"],
        ),
        (
            "annotations.xml",
            "<annotations><image name='a.jpg' width='9' height='9'>"
            "<mask label='a' rle='5,5' left='0' top='0' width='3' height='3'/></image></annotations>",
            ["mask[0]", "'rle'"],
        ),
        ("annotations.xml", "<annotations><track id='0'/></annotations>", ["annotations.xml", "CVAT for images"]),
    ],
    "via": [
        (
            "train/via_project.json",
            '{"_via_img_metadata": {"k": {"filename": "../../a.jpg", "regions": []}}}',
            ["via_project.json", "'filename'"],
        ),
        (
            "train/via_project.json",
            '{"_via_img_metadata": {"k": {"filename": "a.jpg", "regions": [{"shape_attributes": {"name": "rect"}}]}}}',
            ["regions[0]", "'x'"],
        ),
        (
            "train/via_project.json",
            '{"_via_img_metadata": {"k": {"filename": "a.jpg", "regions": [{"shape_attributes": {"name": "rect"}, '
            '"region_attributes": {"colour": "red", "size": "big"}}]}}}',
            ["regions[0]", "'region_attributes'"],
        ),
    ],
}


@pytest.mark.parametrize(
    ("name", "file", "text", "named"), [(name, *rest) for name, cases in BAD.items() for rest in cases]
)
def test_what_is_wrong_is_one_line_with_the_file_and_the_field(written, refusal, tmp_path, name, file, text, named):
    folder = written(name)
    (folder / file).write_text(text)
    line = refusal("data", "convert", folder, "--from", name, "--out", tmp_path / "out")
    for part in named:
        assert part in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("left", ["nothing", "no images", "no labels"])
def test_a_test_split_of_yolo_that_is_not_there_is_left_out(written, run, tmp_path, caplog, left):
    """Roboflow's data.yaml names one whether it was exported or not."""
    folder = written("yolo")
    with (folder / "data.yaml").open("a") as file:
        file.write("test: ../test/images\n")
    if left == "no images":
        (folder / "test" / "images").mkdir(parents=True)
        (folder / "test" / "labels").mkdir()
    if left == "no labels":
        picture(folder / "test" / "images" / "a.jpg")
    assert run("data", "convert", folder, "--out", tmp_path / "coco")[0] == 0
    assert "test" in caplog.text
    assert objects(tmp_path / "coco", "train") == objects(folder, "train")
    assert run("data", "check", folder, "--pictures", 1)[0] == 0


@pytest.mark.parametrize("words", [("data", "convert"), ("data", "check"), ("train", "small/botnet50", "--data")])
def test_a_file_in_the_place_of_the_folder_is_refused(written, refusal, tmp_path, words):
    """As YOLO's users are used to."""
    out = ["--out", tmp_path / "out"] if words[1] == "convert" else []
    line = refusal(*words, written("yolo") / "data.yaml", *out)
    assert "data.yaml" in line and "folder" in line


@pytest.mark.parametrize("name", ["yolo", "darknet"])
def test_a_data_set_below_a_folder_called_images_is_read_as_elsewhere(tmp_path, name):
    """Labels of YOLO's lie in labels/ beside images/, of the data set's own folders alone."""
    found = []
    for folder in (tmp_path / "images" / "export", tmp_path / "other"):
        folder.mkdir(parents=True)
        FORMATS[name](folder)
        found.append(objects(folder, "train"))
    assert found[0] == found[1] != []


def test_a_format_that_is_not_there_is_refused_with_the_one_that_is(written, refusal, tmp_path):
    line = refusal("data", "convert", written("yolo"), "--from", "voc", "--out", tmp_path / "out")
    assert "--from" in line and "yolo" in line


def test_a_folder_without_the_files_of_a_format_is_refused_with_what_is_missing(refusal, tmp_path):
    """And not said to be in COCO's."""
    picture(tmp_path / "export" / "images" / "a.jpg")
    for name in ("yolo", "voc", "labelme", "via"):
        line = refusal("data", "convert", tmp_path / "export", "--from", name, "--out", tmp_path / "out")
        assert "--from" in line and "images/" in line
        assert "coco" not in line
        assert {"yolo": "data.yaml", "voc": "XML", "labelme": "'shapes'", "via": "'regions'"}[name] in line


def test_data_in_coco_layout_and_class_folders_have_no_other_format(shapes, animals):
    assert find_format(shapes) is None
    assert find_format(animals) is None
