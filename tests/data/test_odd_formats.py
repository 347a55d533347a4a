"""Other tools' formats: files that are odd, but that the tools write or read."""

import base64
import json
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from botvision.data.formats import find_format
from botvision.data.formats.building import read_xml
from botvision.errors import UserError


def picture(path: Path, size: tuple[int, int] = (200, 100)) -> None:
    """An image, by default 200 wide and 100 high."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 90, 90)).save(path)


def labelme(folder: Path, *shapes: dict, name: str = "x", **fields: object) -> Path:
    """A JSON file, by default x.json, and where no image has its name x.jpg."""
    given = {"imagePath": f"{name}.jpg", "imageHeight": 100, "imageWidth": 200, **fields}
    if not any(folder.glob(f"{name}.*")):
        picture(folder / f"{name}.jpg")
    (folder / f"{name}.json").write_text(json.dumps({"version": "5.4.1", "shapes": list(shapes), **given}))
    return folder


def shape(kind: str, *points: list[float], **fields: object) -> dict[str, Any]:
    """A shape of LabelMe's."""
    return {"label": "cat", "points": list(points), "shape_type": kind, "group_id": None, **fields}


def drawn_mask() -> dict[str, Any]:
    """A shape of 3 x 4 pixels from (42, 51) on, drawn as a bitmap that starts at (40, 50)."""
    bitmap = np.zeros((8, 6), np.uint8)
    bitmap[1:5, 2:5] = 255
    encoded = BytesIO()
    Image.fromarray(bitmap).save(encoded, "PNG")
    return shape("mask", [40, 50], [45, 57], mask=base64.b64encode(encoded.getvalue()).decode())


def voc(folder: Path, *objects: tuple, root: str = "annotation", before: str = "", name: str = "x") -> Path:
    """An annotation file of 200 x 100 pixels that names an image x.jpg; objects are a name and the corners."""
    corners = "<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax>"
    body = "".join(
        f"<object><name>{cls}</name><bndbox>{corners.format(*box)}</bndbox></object>" for cls, *box in objects
    )
    size = "<size><width>200</width><height>100</height><depth>3</depth></size>"
    text = f"{before}<{root}><filename>x.jpg</filename>{size}{body}</{root.split()[0]}>"
    (folder / f"{name}.xml").write_text(text)
    return folder


def square(x: float, y: float, side: float) -> list[list[float]]:
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side]]


def test_what_is_converted_has_all_that_other_readers_of_coco_need(export, converted, tmp_path):
    """pycocotools evaluates with 'area', supervision reads 'bbox'."""
    coco, cocoeval = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    labelme(export, shape("polygon", *square(10, 20, 30)), shape("rectangle", [60, 10], [20, 40]), drawn_mask())
    annotations = converted()["annotations"]
    assert [one["bbox"] for one in annotations] == [[10, 20, 30, 30], [20, 10, 40, 30], [42, 51, 3, 4]]
    assert [one["area"] for one in annotations] == [900, 1200, 12]
    file = tmp_path / "coco" / "annotations" / "instances_train.json"
    truth = coco.COCO(str(file))
    found = [{**{name: one[name] for name in ("image_id", "category_id", "bbox")}, "score": 0.9} for one in annotations]
    evaluation = cocoeval.COCOeval(truth, truth.loadRes(found), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        supervision = pytest.importorskip("supervision")
        read = supervision.DetectionDataset.from_coco(str(tmp_path / "coco" / "train"), str(file))
    assert sorted(next(iter(read))[2].xyxy.tolist()) == [[10, 20, 40, 50], [20, 10, 60, 40], [42, 51, 45, 55]]


@pytest.mark.parametrize("words", [("convert",), ("split", "--val", 0.5)])
def test_coco_files_get_the_fields_that_they_lack(run, write_coco, content, tmp_path, words):
    """The square is 4 x 5 pixels; an area that is there stays, and crowds and boxes without masks have one too."""
    first, second = content["annotations"]
    del first["bbox"]
    second["area"] = 19.5
    box = {"image_id": 5, "category_id": 3, "bbox": [1, 1, 2.5, 4]}
    crowd = {"image_id": 5, "category_id": 90, "segmentation": {"size": [12, 8], "counts": [13, 5, 78]}, "iscrowd": 1}
    content["annotations"] += [{"id": 3, **box}, {"id": 4, **crowd}]
    folder = write_coco()
    source = folder if words[0] == "convert" else folder / "annotations" / "instances_train2017.json"
    assert run("data", words[0], source, *words[1:], "--out", tmp_path / "out")[0] == 0
    written = [json.loads(file.read_text()) for file in (tmp_path / "out" / "annotations").iterdir()]
    found = {one["id"]: (one["bbox"], one["area"]) for split in written for one in split["annotations"]}
    assert found == {1: ([2, 3, 4, 5], 20), 2: ([2, 3, 4, 5], 19.5), 3: ([1, 1, 2.5, 4], 10), 4: ([1, 1, 1, 5], 5)}


def cvat_xml(*objects: str) -> str:
    """One image with objects of one label."""
    body = "".join(objects).replace("/>", ' label="cat"/>')
    return f'<annotations><image id="0" name="x.jpg" width="200" height="100">{body}</image></annotations>'


RECTANGLE, POLYGON, BITMAP = [[20, 20], [10, 10]], square(40, 30, 10), drawn_mask()
GROUPS = {
    "rectangle, polygon": ([10, 10, 40, 30], 200, None),
    "polygon, rectangle": ([10, 10, 40, 30], 200, None),
    "rectangle, bitmap": ([10, 10, 35, 45], 112, "counts"),
    "polygon, bitmap": ([40, 30, 10, 25], 112, "counts"),
    "rectangle, bitmap, polygon": ([10, 10, 40, 45], 212, "counts"),
    "rectangle, rectangle": ([10, 10, 10, 10], 100, ""),
}
"""By the parts of a group the box around them, the pixels that they cover, and the form of the mask."""


@pytest.mark.parametrize("tool", ["labelme", "cvat"])
@pytest.mark.parametrize("parts", GROUPS)
def test_a_group_is_all_that_its_parts_cover(export, converted, parts, tool):
    if tool == "labelme":
        of_kind = {"rectangle": shape("rectangle", *RECTANGLE), "polygon": shape("polygon", *POLYGON), "bitmap": BITMAP}
        labelme(export, *({**of_kind[kind], "group_id": 1} for kind in parts.split(", ")))
    else:
        picture(export / "images" / "x.jpg")
        corners = ";".join(f"{x},{y}" for x, y in POLYGON)
        of_kind = {
            "rectangle": '<box xtl="10" ytl="10" xbr="20" ybr="20" group_id="1"/>',
            "polygon": f'<polygon points="{corners}" group_id="1"/>',
            "bitmap": '<mask rle="0,12" left="42" top="51" width="3" height="4" group_id="1"/>',
        }
        (export / "annotations.xml").write_text(cvat_xml(*(of_kind[kind] for kind in parts.split(", "))))
    (found,) = converted()["annotations"]
    box, area, form = GROUPS[parts]
    assert found["bbox"] == box
    assert found["area"] == area
    if form is None:
        assert len(found["segmentation"]) == 2
    else:
        assert form in found.get("segmentation", "")


def files_of(content: dict[str, Any]) -> list[str]:
    return [image["file_name"] for image in content["images"]]


@pytest.mark.parametrize("tool", ["labelme", "voc"])
@pytest.mark.parametrize("others", [("x.bmp",), ("x.png", "x.BMP")])
def test_the_image_that_the_annotations_name_comes_before_others(export, converted, tool, others):
    for name in (*others, "x.jpg"):
        picture(export / name)
    if tool == "labelme":
        labelme(export, shape("rectangle", [10, 10], [20, 20]))
    else:
        voc(export, ("cat", 11, 11, 20, 20))
    assert files_of(converted()) == ["x.jpg"]


@pytest.mark.parametrize("tool", ["labelme", "voc"])
@pytest.mark.parametrize("name", ["x.png", "x.JpG", "x.JPG"])
def test_an_image_that_has_another_suffix_than_the_one_named_is_found(export, converted, tool, name):
    picture(export / name)
    if tool == "labelme":
        labelme(export, shape("rectangle", [10, 10], [20, 20]))
    else:
        voc(export, ("cat", 11, 11, 20, 20))
    assert files_of(converted()) == [name]


def test_labelme_reads_the_image_that_it_names_whatever_the_name_of_its_file(export, converted):
    """As LabelMe does; a path out of the data set is never followed where the image lies beside."""
    picture(export / "z.jpg")
    labelme(export, shape("rectangle", [10, 10], [20, 20]), imagePath="z.jpg")
    labelme(export, shape("rectangle", [10, 10], [20, 20]), imagePath="..\\photos\\w.jpg", name="w")
    assert files_of(converted()) == ["w.jpg", "z.jpg"]


@pytest.mark.parametrize(
    ("before", "root"),
    [
        ("", 'annotation verified="yes"'),
        ("", "annotation\n "),
        ("<!--" + " long" * 1000 + "-->", "annotation"),
        ("<!DOCTYPE annotation>", "annotation"),
        ('<!DOCTYPE annotation SYSTEM "file:///etc/passwd">', "annotation"),
    ],
)
def test_pascal_voc_is_known_by_its_root(export, converted, before, root):
    picture(export / "x.jpg")
    voc(export, ("cat", 11, 21, 20, 40), root=root, before=before)
    assert [one["bbox"] for one in converted()["annotations"]] == [[10, 20, 10, 20]]


def test_cvat_is_known_by_its_root(export, converted):
    picture(export / "images" / "x.jpg")
    text = cvat_xml('<box xtl="10" ytl="10" xbr="20" ybr="20"/>').replace("<annotations>", '<annotations v="1.1">')
    (export / "annotations.xml").write_text(f"<!--{' long' * 1000}-->{text}")
    assert files_of(converted()) == ["images/x.jpg"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("declared", ['<!ENTITY b "c">', '<!ENTITY % b "c">', '<!ATTLIST name b CDATA "c">'])
def test_xml_that_declares_something_is_refused(export, encoding, declared):
    file = export / "x.xml"
    file.write_bytes(f"<!DOCTYPE annotation [{declared}]><annotation/>".encode(encoding))
    with pytest.raises(UserError, match=r"x\.xml: has a DOCTYPE with declarations"):
        read_xml(file)


@pytest.mark.parametrize("other", ["a", "z"])
@pytest.mark.parametrize("tool", ["labelme", "voc"])
def test_a_file_of_something_else_is_named_whatever_its_place(export, refusal, tmp_path, tool, other):
    picture(export / "x.jpg")
    if tool == "labelme":
        labelme(export, shape("rectangle", [10, 10], [20, 20]))
        (export / f"{other}.json").write_text('{"version": 1}')
    else:
        voc(export, ("cat", 11, 21, 20, 40))
        (export / f"{other}.xml").write_text("<project/>")
    line = refusal("data", "convert", export, "--from", tool, "--out", tmp_path / "coco")
    assert f"{other}.{'json' if tool == 'labelme' else 'xml'}" in line
    assert ("'shapes'" if tool == "labelme" else "<annotation>") in line


def test_labelme_and_via_are_known_where_an_image_or_a_list_comes_first(export, tmp_path):
    labelme(export, shape("rectangle", [10, 10], [20, 20]))
    content = json.loads((export / "x.json").read_text()) | {"imageData": "A" * 100_000}
    (export / "x.json").write_text(json.dumps(content, sort_keys=True))
    assert find_format(export) == "labelme"
    names = [f"photograph-{number}.jpg12345" for number in range(5000)]
    (tmp_path / "via").mkdir()
    (tmp_path / "via" / "via.json").write_text(json.dumps({"_via_image_id_list": names, "_via_img_metadata": {}}))
    assert find_format(tmp_path / "via") == "via"


def test_rectangles_of_four_points_are_read(export, converted):
    """X-AnyLabeling's; a turned one is a diamond of half the area of its box."""
    corners, diamond = [[10, 10], [50, 10], [50, 30], [10, 30]], [[30, 10], [50, 30], [30, 50], [10, 30]]
    labelme(
        export, shape("rectangle", *corners), *(shape(kind, *diamond) for kind in ("oriented_rectangle", "rotation"))
    )
    straight, *turned = converted()["annotations"]
    assert straight["bbox"] == [10, 10, 40, 20]
    assert "segmentation" not in straight
    for one in turned:
        assert one["bbox"] == [10, 10, 40, 40]
        assert one["segmentation"] == [[30, 10, 50, 30, 30, 50, 10, 30]]
        assert one["area"] == pytest.approx(800, abs=40)


@pytest.mark.parametrize(("tool", "folder"), [("labelme", ""), ("voc", ""), ("voc", "JPEGImages")])
def test_images_without_an_annotation_file_are_counted(export, converted, caplog, tool, folder):
    for name in ("a.jpg", "b.png", ".hidden.jpg", "x.jpg"):
        picture(export / folder / name)
    if tool == "labelme":
        labelme(export, shape("rectangle", [10, 10], [20, 20]))
    else:
        place = export / "Annotations" if folder else export
        place.mkdir(exist_ok=True)
        voc(place, ("cat", 11, 21, 20, 40))
    assert [Path(file).name for file in files_of(converted())] == ["x.jpg"]
    assert "left out 2 images" in caplog.text


@pytest.mark.parametrize(
    ("file", "image", "named"),
    [
        ("json/x.json", "images/x.jpg", "../images/x.jpg"),
        ("json/x.json", "images/deep/x.jpg", "..\\images\\deep\\x.jpg"),
        ("a/x.json", "a/x.jpg", "x.jpg"),
        ("a/b/x.json", "a/b/y.jpg", "y.jpg"),
        ("train/json/x.json", "train/images/x.jpg", "../images/x.jpg"),
        ("train/x.json", "images/x.jpg", "../images/x.jpg"),
    ],
)
def test_labelme_may_lie_in_folders_below_and_apart_from_its_images(
    export, converted, caplog, monkeypatch, file, image, named
):
    monkeypatch.chdir(export)
    picture(export / image)
    picture(export / ("train" if "train" in file else "") / "unseen.jpg")
    (export / ".hidden").mkdir()
    (export / ".hidden" / "z.json").write_text('{"shapes": 3}')
    (export / file).parent.mkdir(parents=True, exist_ok=True)
    about = {"shapes": [shape("rectangle", [10, 10], [20, 20])], "imagePath": named}
    (export / file).write_text(json.dumps(about))
    assert find_format(Path()) == "labelme"
    content = converted()
    assert files_of(content) == [image]
    assert len(content["annotations"]) == 1
    assert "left out 1 images" in caplog.text and "unseen.jpg" in caplog.text


@pytest.mark.parametrize("given", ["json", "."])
def test_an_image_of_labelme_out_of_the_folder_is_refused_with_what_to_give(
    export, refusal, tmp_path, monkeypatch, given
):
    """A relative folder too, from which every path is one inside."""
    picture(export / "images" / "x.jpg")
    (export / "json").mkdir()
    (export / "json" / "x.json").write_text('{"shapes": [], "imagePath": "../images/x.jpg"}')
    monkeypatch.chdir(export / ("json" if given == "." else ""))
    line = refusal("data", "convert", given, "--out", tmp_path / "coco")
    assert "x.json" in line and "'imagePath'" in line and "../images/x.jpg" in line


def test_a_picture_that_labelme_keeps_in_its_file_alone_is_said_to_be_there(export, refusal, tmp_path):
    labelme(export, shape("rectangle", [10, 10], [20, 20]), imageData="aGk=")
    (export / "x.jpg").unlink()
    line = refusal("data", "convert", export, "--out", tmp_path / "coco")
    assert "x.json" in line and "'imageData'" in line and "x.jpg" in line


@pytest.mark.parametrize("other", ["result.json", "deep/annotations/instances_train.json"])
def test_files_of_other_tools_do_not_make_a_folder_one_of_labelme(export, other):
    """Neither what lies below another tool's only file, nor COCO's own, is read: they may be huge."""
    (export / other).parent.mkdir(parents=True, exist_ok=True)
    (export / other).write_text("{}" if other == "result.json" else '{"shapes": []}')
    (export / "below").mkdir()
    if other == "result.json":
        labelme(export / "below", shape("rectangle", [10, 10], [20, 20]))
    assert find_format(export) is None


@pytest.mark.parametrize("tool", ["voc", "cvat", "via"])
def test_the_corners_of_a_box_may_come_in_either_order(export, converted, tool):
    """From (10, 20) to (40, 60); VOC counts from 1, and the last pixel belongs to the box."""
    if tool == "voc":
        picture(export / "x.jpg")
        voc(export, ("cat", 40, 60, 11, 21), ("cat", 11, 60, 40, 21))
    elif tool == "cvat":
        picture(export / "images" / "x.jpg")
        text = cvat_xml('<box xtl="40" ytl="60" xbr="10" ybr="20"/>', '<box xtl="10" ytl="60" xbr="40" ybr="20"/>')
        (export / "annotations.xml").write_text(text)
    else:
        picture(export / "x.jpg")
        rectangles = [(40, 60, -30, -40), (10, 60, 30, -40)]
        fields = [dict(zip(("x", "y", "width", "height"), one, strict=True), name="rect") for one in rectangles]
        regions = [{"shape_attributes": one, "region_attributes": {"class": "cat"}} for one in fields]
        (export / "via.json").write_text(json.dumps({"x.jpg1": {"filename": "x.jpg", "regions": regions}}))
    assert [one["bbox"] for one in converted()["annotations"]] == [[10, 20, 30, 40]] * 2
