"""`botvision data check` on other tools' formats: all wrong files in one run, each note once under a heading."""

import json
from pathlib import Path

import pytest
from PIL import Image

COUNT = 25
"""Images; more than the findings that are kept of a kind that training does not stop at."""
SIZE = "<size><width>20</width><height>10</height></size>"
BAD = {
    "yolo": ("labels/{}.txt", "5 0.5 0.5 1 1\n"),
    "labelme": ("images/{}.json", '{"shapes": [{"label": 3}]}'),
    "voc": ("images/{}.xml", f"<annotation>{SIZE}<object/></annotation>"),
}
"""By the format the wrong annotation file of an image, which is one for each image."""


@pytest.fixture
def images(export) -> list[str]:
    """Names of images without suffixes."""
    (export / "images").mkdir()
    names = [f"photo{number}" for number in range(COUNT)]
    for name in names:
        Image.new("RGB", (20, 10)).save(export / "images" / f"{name}.png")
    return names


@pytest.fixture
def findings(run):
    """What a check finds, which must have the status."""

    def check(folder: Path, status: int) -> list[dict]:
        found, out, err = run("data", "check", folder, "--json", "--pictures", 0)
        assert found == status, err
        return json.loads(out)["findings"]

    return check


def write(folder: Path, tool: str, names: list[str]) -> Path:
    """Wrong annotations of every image; gives the folder of the data set."""
    if tool == "cvat":
        records = "".join(f'<image name="{name}.png" width="0" height="1"/>' for name in names)
        (folder / "annotations.xml").write_text(f"<annotations>{records}</annotations>")
    elif tool == "via":
        records = {name: {"filename": f"{name}.png", "regions": [{"shape_attributes": 1}]} for name in names}
        (folder / "via.json").write_text(json.dumps({"_via_img_metadata": records}))
    else:
        (folder / "labels").mkdir()
        (folder / "data.yaml").write_text("train: images\nval: images\nnames: [cat]\n")
        file, text = BAD[tool]
        for name in names:
            (folder / file.format(name)).write_text(text)
        if tool != "yolo":
            return folder / "images"
    return folder


@pytest.mark.parametrize("tool", [*BAD, "cvat", "via"])
def test_every_wrong_file_is_named_once_in_one_run(export, images, findings, run, refusal, tmp_path, tool):
    folder = write(export, tool, images)
    refused = [found for found in findings(folder, 2) if found["effect"] == "refused"]
    (found,) = [found for found in refused if found["count"] > 1]
    assert found["count"] == COUNT
    shown = run("data", "check", folder)[1].splitlines()
    for name in images:
        for lines in ([one["problem"] for one in found["first"]], shown):
            assert sum(f"{name}." in line or f"'{name}'" in line for line in lines) == 1
    line = refusal("data", "convert", folder, "--out", tmp_path / "coco")
    assert str(COUNT) in line


def test_a_wrong_file_of_either_split_does_not_hide_that_of_the_other(export, images, findings):
    for split in ("train", "val"):
        (export / split).mkdir()
        (export / "images" / f"{images.pop()}.png").rename(export / split / "a.png")
        (export / split / "a.json").write_text('{"shapes": 3}')
    (found,) = findings(export, 2)
    assert found["count"] == 2
    assert [split in str(found["first"]) for split in ("train/a.json", "val/a.json")] == [True, True]


@pytest.mark.parametrize("tool", ["yolo", "labelme"])
def test_a_note_is_there_once_under_a_heading(export, images, findings, tool):
    """A test split that is not there; shapes that are no objects."""
    if tool == "yolo":
        (export / "labels").mkdir()
        (export / "data.yaml").write_text("train: images\nval: images\ntest: ../test/images\nnames: [cat]\n")
        (export / "labels" / f"{images[0]}.txt").write_text("0 0.5 0.5 1 1\n")
    else:
        for split in ("train", "val"):
            (export / split).mkdir()
            (export / "images" / f"{images.pop()}.png").rename(export / split / "a.png")
            kinds = {"rectangle": [[1, 1], [9, 9]], "point": [[1, 1]], "line": [[1, 1], [2, 2]]}
            shapes = [{"label": "cat", "shape_type": kind, "points": points} for kind, points in kinds.items()]
            (export / split / "a.json").write_text(json.dumps({"shapes": shapes, "imagePath": "a.png"}))
    (found,) = [one for one in findings(export, 0) if "left out" in one["kind"]]
    assert found["count"] == 1
    assert ("split" if tool == "yolo" else "shapes") in found["kind"]
    assert "..." not in found["kind"]
