"""Other tools' formats, from files that a library writes: the same objects as the data set they were made of."""

import json
import shutil
from pathlib import Path

import pytest
from globox import AnnotationSet

YAML = "train: images/train\nval: images/train\nnames: {names}\n"


def objects(annotations: Path) -> dict[str, list[tuple]]:
    """By the name of an image its objects in order: class and the corners of the box, to a tenth of a pixel."""
    content = json.loads(annotations.read_text(encoding="utf-8"))
    names = {one["id"]: one["name"] for one in content["categories"]}
    images = {one["id"]: Path(one["file_name"]).name for one in content["images"]}
    found: dict[str, list[tuple]] = {name: [] for name in images.values()}
    for one in content["annotations"]:
        x, y, width, height = one["bbox"]
        corners = (round(number, 1) for number in (x, y, x + width, y + height))
        found[images[one["image_id"]]].append((names[one["category_id"]], *corners))
    return {image: sorted(of_image) for image, of_image in found.items()}


@pytest.fixture
def source(shapes) -> Path:
    return shapes / "annotations" / "instances_val2017.json"


@pytest.fixture
def written(source, shapes, tmp_path):
    """Writes the data set by a library; gives the folder."""
    folder = tmp_path / "export"
    theirs = AnnotationSet.from_coco(source)

    def images(place: Path) -> Path:
        shutil.copytree(shapes / "val2017", place)
        return place

    def write(name: str) -> Path:
        if name == "yolo":
            classes = {
                label: number for number, label in enumerate(sorted({box.label for one in theirs for box in one.boxes}))
            }
            images(folder / "images" / "train")
            (folder / "labels").mkdir()
            theirs.save_yolo_v5(folder / "labels" / "train", label_to_id=classes)
            (folder / "data.yaml").write_text(YAML.format(names=json.dumps(list(classes))))
        elif name == "labelme":
            theirs.save_labelme(images(folder))
        elif name == "cvat":
            images(folder / "images")
            theirs.save_cvat(folder / "annotations.xml")
        elif name == "via":
            theirs.save_via_json(folder / "via.json", image_folder=images(folder))
        elif name == "voc":
            images(folder / "JPEGImages")
            theirs.save_pascal_voc(folder / "Annotations")
        return folder

    return write


@pytest.fixture
def converted(written, run, tmp_path):
    """The objects of what a library wrote, after `botvision data convert`."""

    def convert(name: str) -> dict[str, list[tuple]]:
        status, _, err = run("data", "convert", written(name), "--out", tmp_path / "coco")
        assert status == 0, err
        return objects(next((tmp_path / "coco" / "annotations").iterdir()))

    return convert


@pytest.mark.parametrize("name", ["yolo", "labelme", "cvat", "via"])
def test_what_a_library_writes_is_read_as_the_objects_it_had(converted, source, name):
    expected = objects(source)
    assert sum(map(len, expected.values())) > 5
    assert converted(name) == expected


def test_pascal_voc_is_read_to_a_pixel(converted, source):
    """Its boxes are whole numbers counted from 1; the library writes corners as they are, counted from 0."""
    expected, found = objects(source), converted("voc")
    assert found.keys() == expected.keys()
    for image, of_image in expected.items():
        assert [one[0] for one in found[image]] == [one[0] for one in of_image]
        for ours, theirs in zip(found[image], of_image, strict=True):
            assert ours[1:] == pytest.approx(theirs[1:], abs=1)
