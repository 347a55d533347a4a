"""YOLO's format: files that are odd, but that its tools write or read."""

import json
from pathlib import Path

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


def test_images_of_yolo_in_folders_below_are_read(export, converted):
    """As Ultralytics does; a name may be there twice, and what is hidden is no image."""
    yolo(export, "0 0.5 0.5 0.5 0.5\n")
    yolo(export, "1 0.5 0.5 0.5 0.5\n", image="images/train/one/x.jpg")
    yolo(export, "1 0.5 0.5 1 1\n", image="images/train/two/below/y.v2.jpg")
    yolo(export, "1 0.5 0.5 1 1\n", image="images/train/.cache/x.jpg")
    content = converted()
    names = {image["id"]: image["file_name"] for image in content["images"]}
    boxes = {names[one["image_id"]]: (one["category_id"], one["bbox"]) for one in content["annotations"]}
    assert boxes == {
        "images/train/x.jpg": (1, [50, 25, 100, 50]),
        "images/train/one/x.jpg": (2, [50, 25, 100, 50]),
        "images/train/two/below/y.v2.jpg": (2, [0, 0, 200, 100]),
    }


def test_a_folder_below_that_is_a_link_is_refused(export, refusal, tmp_path):
    picture(tmp_path / "elsewhere" / "y.jpg")
    (yolo(export, "0 0.5 0.5 0.5 0.5") / "images" / "train" / "below").symlink_to(tmp_path / "elsewhere")
    line = refusal("data", "convert", export, "--out", tmp_path / "coco")
    assert "below" in line and "link" in line


@pytest.mark.parametrize("label", ["1", "1.0", "01", "+1"])
def test_a_class_of_yolo_may_be_written_as_a_decimal(export, converted, label):
    """As Ultralytics reads all numbers of a line."""
    yolo(export, f"{label} 0.5 0.5 0.5 0.5\n")
    assert [one["category_id"] for one in converted()["annotations"]] == [2]


@pytest.mark.parametrize("label", ["0.5", "-1", "2.0", "nan", "1e300", "cat"])
def test_a_class_of_yolo_that_is_none_is_refused(export, refusal, tmp_path, label):
    line = refusal("data", "convert", yolo(export, f"{label} 0.5 0.5 0.5 0.5\n"), "--out", tmp_path / "coco")
    assert "x.txt: line 1" in line and "'class'" in line


@pytest.mark.parametrize("text", ["# *** my data ***\n", "note: 'a * b'\n", "files: '*.jpg'\n", "note: &name 3\n"])
def test_a_star_in_the_yaml_file_is_no_alias(export, converted, text):
    yolo(export, "0 0.5 0.5 0.5 0.5\n", text + NAMES)
    assert len(converted()["annotations"]) == 1


@pytest.mark.parametrize("text", ["a: &a [1]\nb: *a\n", "a: &a {b: 1}\nc:\n  <<: *a\n"])
def test_an_alias_in_the_yaml_file_is_refused(export, refusal, tmp_path, text):
    folder = yolo(export, "0 0.5 0.5 0.5 0.5\n", text + NAMES)
    line = refusal("data", "convert", folder, "--out", tmp_path / "coco")
    assert f"data.yaml: line {text.count(chr(10))}" in line and "aliases" in line


@pytest.mark.parametrize(
    ("places", "train"),
    [(["images"], "images"), (["train/images", "valid/images"], "train/images"), (["images/train"], "images/train")],
)
@pytest.mark.parametrize(
    "words",
    [
        ["data", "convert", "--out", "new"],
        ["data", "convert", "--from", "yolo", "--out", "new"],
        ["train", "small/botnet50", "--out", "new", "--data"],
    ],
)
def test_labels_without_a_yaml_file_are_told_and_its_lines_given(
    export, refusal, tmp_path, monkeypatch, places, train, words
):
    """And no COCO's files are asked for."""
    for place in places:
        yolo(export, "\n1 0.5 0.5 1 1\n", image=f"{place}/x.jpg")
    (export / "data.yaml").unlink()
    monkeypatch.chdir(tmp_path)
    line = refusal(*words, export)
    assert "data.yaml" in line and f"train: {train}" in line and "names: [" in line
    assert "instances_" not in line


@pytest.mark.parametrize("is_split", [False, True])
def test_a_check_tells_of_labels_without_a_yaml_file_and_split_shares_out_no_folder_of_labels(
    export, run, refusal, tmp_path, is_split
):
    for place in ("train/images", "valid/images") if is_split else ("images",):
        yolo(export, "0 0.5 0.5 1 1\n", image=f"{place}/x.jpg")
    (export / "data.yaml").unlink()
    status, out, _ = run("data", "check", export, "--json")
    (found,) = json.loads(out)["findings"]
    assert status == 2
    assert "data.yaml" in found["first"][0]["problem"]
    assert "data convert" in refusal("data", "split", export, "--out", tmp_path / "new")


def test_folders_of_yolo_are_never_taken_for_classes(export, refusal, tmp_path):
    """With a YAML file too."""
    for split in ("train", "val"):
        yolo(export, "0 0.5 0.5 1 1\n", "names: [cat]\n", image=f"{split}/images/x.jpg")
    words = ["train", "imagenet/botnet50", "--smoke", "--data", export, "--out", tmp_path / "run"]
    assert "data for detection" in refusal(*words)


@pytest.mark.parametrize(("count", "is_named"), [("nc: 7\n", True), ("nc: 2\n", False), ("", False)])
def test_names_that_are_fewer_than_the_yaml_file_counts_are_named(export, refusal, tmp_path, count, is_named):
    line = refusal("data", "convert", yolo(export, "5 0.5 0.5 1 1\n", NAMES + count), "--out", tmp_path / "coco")
    assert "x.txt: line 1" in line
    assert ("data.yaml" in line) == ("'nc'" in line) == is_named


def boxes_by_image(content: dict) -> dict[str, list[float]]:
    """The box of the one object of each image."""
    names = {image["id"]: image["file_name"] for image in content["images"]}
    return {names[one["image_id"]]: one["bbox"] for one in content["annotations"]}


@pytest.mark.parametrize("listed", [["images/one", "images/two"], ["images/one", "list.txt"], ["images", "images/two"]])
def test_a_split_of_several_folders_of_yolo_is_read(export, converted, listed):
    yolo(export, "0 0.5 0.5 0.5 0.5\n", image="images/one/x.jpg")
    yolo(export, "0 0.5 0.5 1 1\n", f"train: {listed}\nnames: [cat]\n", image="images/two/x.jpg")
    (export / "list.txt").write_text("images/two/x.jpg\n")
    content = converted()
    assert boxes_by_image(content) == {"images/one/x.jpg": [50, 25, 100, 50], "images/two/x.jpg": [0, 0, 200, 100]}
    assert len(content["images"]) == 2


@pytest.mark.parametrize("before", ["", "./", "data/"])
def test_a_list_of_images_of_yolo_is_read(export, converted, before):
    """As Ultralytics' autosplit and CVAT write it: only what is listed belongs to the split."""
    for name in ("x", "y", "z"):
        yolo(export, "0 0.5 0.5 1 1\n", "train: train.txt\nval: val.txt\nnames: [cat]\n", f"images/all/{name}.jpg")
    (export / "train.txt").write_text(f"{before}images/all/x.jpg\n\n{before}images/all/z.jpg\n")
    (export / "val.txt").write_text(f"{before}images/all/y.jpg\n")
    assert boxes_by_image(converted()) == {f"images/all/{name}.jpg": [0, 0, 200, 100] for name in "xz"}
    assert boxes_by_image(converted("val")) == {"images/all/y.jpg": [0, 0, 200, 100]}


@pytest.mark.parametrize(
    ("train", "line", "named"),
    [
        ("train.txt", "../elsewhere/y.jpg", ["train.txt: line 2", ".."]),
        ("train.txt", "/elsewhere/y.jpg", ["train.txt: line 2", "/elsewhere"]),
        ("train.txt", "images/train/gone.jpg", ["train.txt: line 2", "gone.jpg"]),
        ("bare.txt", "", ["bare.txt", "labels/bare/z.txt"]),
        ("empty.txt", "", ["empty.txt", "no image"]),
        ("../../train.txt", "", ["data.yaml", "'train'"]),
        ("[images/train, ../../elsewhere/images]", "", ["data.yaml", "'train'", "elsewhere"]),
        ("[images/train, 3]", "", ["data.yaml", "'train'"]),
        ("gone.txt", "", ["data.yaml", "'train'", "gone.txt"]),
    ],
)
def test_what_is_wrong_in_a_list_is_named(export, refusal, tmp_path, train, line, named):
    folder = yolo(export, "0 0.5 0.5 1 1\n", f"train: {train}\nnames: [cat]\n")
    picture(tmp_path / "elsewhere" / "images" / "y.jpg")
    picture(export / "images" / "bare" / "z.jpg")
    (export / "bare.txt").write_text("images/bare/z.jpg\n")
    (export / "empty.txt").write_text("\n")
    (tmp_path / "train.txt").write_text("images/train/x.jpg\n")
    (export / "train.txt").write_text(f"images/train/x.jpg\n{line}\n")
    said = refusal("data", "convert", folder, "--out", tmp_path / "coco")
    for part in named:
        assert part in said


@pytest.mark.parametrize("line", ["images/test/gone.jpg", "images/bare/z.jpg", ""])
def test_a_list_of_test_images_without_labels_is_left_out(export, converted, caplog, line):
    """As coco.yaml of Ultralytics has one."""
    yolo(export, "0 0.5 0.5 1 1\n", f"{NAMES}test: test.txt\n")
    picture(export / "images" / "bare" / "z.jpg")
    (export / "test.txt").write_text(f"{line}\n")
    assert len(converted()["images"]) == 1
    assert "test.txt: has no images with labels; left out" in caplog.text


def test_label_files_without_an_image_are_counted_once(export, converted, run, caplog):
    """Empty ones too, as they name an image; classes.txt is none, and of a list only what it lists is looked at."""
    yolo(export, "0 0.5 0.5 1 1\n", image="images/train/deeper/x.jpg")
    yolo(
        export,
        "0 0.5 0.5 1 1\n",
        "train: images/train\nval: val.txt\ntest: images/train\nnames: [cat]\n",
        "images/val/y.jpg",
    )
    (export / "val.txt").write_text("images/val/y.jpg\n")
    for name in ("train/b.txt", "train/deeper/a.txt", "train/classes.txt", "train/.hidden.txt", "val/other.txt"):
        (export / "labels" / name).write_text("" if "a" in name else "0 0.5 0.5 1 1\n")
    assert len(converted()["images"]) == len(converted("val")["images"]) == 1
    (warning,) = caplog.messages
    assert "left out 2 label files" in warning and "b.txt" in warning
    found = json.loads(run("data", "check", export, "--json", "--pictures", 0)[1])["findings"]
    (noted,) = [one for one in found if "label files" in one["kind"]]
    assert noted["count"] == 1
    assert "left out 2 label files" in noted["first"][0]["problem"]
