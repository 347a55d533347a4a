"""Labels from elsewhere: subsets of the classes, ImageNet-V2's numbered folders, ImageNet-ReaL, lists of images."""

import json
from pathlib import Path

import pytest
from PIL import Image

from botvision.errors import UserError
from botvision.tasks.classification.labels import REAL_IMAGES, class_places, open_labelled
from botvision.tasks.classification.transforms import eval_crop

WNIDS = [f"n{number:04}" for number in range(12)]
UNSORTED = [*WNIDS[5:], *WNIDS[:5]]
"""A model whose outputs are in another order than its classes' sorted names."""


def save_images(folder: Path, names: list[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (200, 10, 10)).save(folder / name)


def opened(root, classes=UNSORTED, split="val", **options) -> dict[str, list[int]]:
    """For every image, by its name, the right outputs of the model."""
    dataset, right_labels = open_labelled(str(root), split, eval_crop(8), classes, classes, **options)
    targets = [dataset[index][1] for index in range(len(dataset))]
    assert all(image.shape == (3, 8, 8) for image, _ in (dataset[index] for index in range(len(dataset))))
    return {Path(target["path"]).name: list(right_labels(target)) for target in targets}


@pytest.mark.parametrize("classes", [WNIDS, UNSORTED])
@pytest.mark.parametrize("wanted", [WNIDS, WNIDS[2:7]])
@pytest.mark.parametrize("below", ["val", "."])
def test_folders_of_the_models_classes_or_some_of_them(tmp_path, classes, wanted, below):
    save_images(tmp_path / below, [f"{wnid}/of_{wnid}.jpg" for wnid in wanted])
    right = opened(tmp_path, classes)
    assert right == {f"of_{wnid}.jpg": [classes.index(wnid)] for wnid in wanted}


@pytest.mark.parametrize("below", ["val", "."])
def test_numbered_folders_stand_for_the_sorted_classes(tmp_path, below):
    """As strings they sort 0, 1, 10, 11, 2 ..., which is not what they mean."""
    save_images(tmp_path / below, [f"{number}/{number}.jpg" for number in range(12)])
    assert opened(tmp_path) == {f"{number}.jpg": [UNSORTED.index(WNIDS[number])] for number in range(12)}


def test_names_that_are_numbers_are_names_first():
    digits = ["9", "8", "7"]
    assert class_places(["7", "9"], digits) == [2, 0]
    assert class_places(["0", "1", "2"], digits) == [2, 1, 0]
    assert class_places(["0", "1"], digits) == []
    assert class_places(["0", "1", "2", "3"], digits) == []


def test_folders_of_other_classes_are_refused(tmp_path):
    save_images(tmp_path / "val", [f"{name}/1.jpg" for name in ("cat", *WNIDS)])
    with pytest.raises(UserError, match="not the model's 12, which have no 'cat'"):
        opened(tmp_path)
    save_images(tmp_path / "val", [f"{number}/1.jpg" for number in range(13)])
    with pytest.raises(UserError, match=r"'0', '1', '10', '11', '12' and 9 more"):
        opened(tmp_path)


def test_a_split_that_there_is_not(tmp_path):
    with pytest.raises(UserError, match="holds no test2017/"):
        opened(tmp_path, split="test2017")


# --- ImageNet-ReaL ---


def real_file(folder: Path, entries: dict[int, list], fill: list | None = None) -> Path:
    """A file of ImageNet-ReaL with these entries, by the number in the image's name."""
    content: list = [[0] if fill is None else fill] * REAL_IMAGES
    for number, labels in entries.items():
        content[number - 1] = labels
    file = folder / "real.json"
    file.write_text(json.dumps(content))
    return file


def real_name(number: int) -> str:
    return f"ILSVRC2012_val_{number:08}.JPEG"


@pytest.mark.parametrize("below", ["val", "val/n0001", "."])
def test_real_labels_belong_to_the_number_in_the_name(tmp_path, below):
    save_images(tmp_path / below, [real_name(number) for number in (1, 2, 777, REAL_IMAGES)])
    file = real_file(tmp_path, {1: [3, 1], 2: [], 777: [11], REAL_IMAGES: [5]}, fill=[9])
    place = [UNSORTED.index(wnid) for wnid in WNIDS]
    assert opened(tmp_path, labels=file) == {
        real_name(1): [place[3], place[1]],
        real_name(777): [place[11]],
        real_name(REAL_IMAGES): [place[5]],
    }
    assert len(opened(tmp_path, labels=file, limit=2)) == 2


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([12], "image 4 has label 12, the model's are 0 to 11"),
        ([0, -1], "image 4: "),
        ([1.0], "image 4: "),
        ([True], "image 4: "),
        ("1", "image 4: "),
        (None, "image 4: "),
    ],
)
def test_real_labels_that_are_none(tmp_path, labels, message):
    save_images(tmp_path / "val", [real_name(4)])
    file = real_file(tmp_path, {4: labels})
    with pytest.raises(UserError, match=rf"real\.json: .*{message}"):
        opened(tmp_path, labels=file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps([[0]] * (REAL_IMAGES - 1)), "49999"),
        (json.dumps([[0]] * (REAL_IMAGES + 1)), "50000"),
        ('{"a": 1}', "list"),
        ("[[1], [2", "JSON"),
        ("", "JSON"),
    ],
)
def test_a_real_file_of_another_shape(tmp_path, text, message):
    save_images(tmp_path / "val", [real_name(1)])
    (tmp_path / "real.json").write_text(text)
    with pytest.raises(UserError, match=rf"real\.json: .*{message}") as caught:
        opened(tmp_path, labels=tmp_path / "real.json")
    assert len(str(caught.value)) < 400 + len(str(tmp_path))


@pytest.mark.parametrize("name", ["cat.jpg", "ILSVRC2012_val_00000000.JPEG", "ILSVRC2012_val_00050001.JPEG"])
def test_an_image_that_real_labels_do_not_know(tmp_path, name):
    save_images(tmp_path / "val", [real_name(1), name])
    with pytest.raises(UserError, match=rf"{name}: is no image that"):
        opened(tmp_path, labels=real_file(tmp_path, {}))


def test_real_labels_for_no_image_at_all(tmp_path):
    save_images(tmp_path / "val", [real_name(1)])
    with pytest.raises(UserError, match="a right label for none of the images"):
        opened(tmp_path, labels=real_file(tmp_path, {1: []}))


# --- lists ---


def test_a_list_of_images_and_labels(tmp_path):
    save_images(tmp_path / "val", ["a.jpg", "deep/b c.jpg", "d.jpg", "left_out.jpg"])
    (tmp_path / "list.txt").write_text("a.jpg 0\n\n  deep/b c.jpg n0003 \nval/d.jpg 11\n")
    assert opened(tmp_path, labels=tmp_path / "list.txt") == {
        "a.jpg": [UNSORTED.index("n0000")],
        "b c.jpg": [UNSORTED.index("n0003")],
        "d.jpg": [UNSORTED.index("n0011")],
    }


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.jpg 12", "line 2 has label '12', which is none of the model's 12 classes and no number from 0 to 11"),
        ("a.jpg -1", "line 2 has label '-1'"),
        ("a.jpg cat", "line 2 has label 'cat'"),
        ("a.jpg", "line 2 is 'a.jpg'"),
        ("gone.jpg 3", "line 2 names 'gone.jpg'"),
        ("../list.txt 3", "line 2 has path '../list.txt'"),
        ("/etc/passwd 3", "line 2 has path '/etc/passwd'"),
    ],
)
def test_a_line_of_a_list_that_cannot_be(tmp_path, line, message):
    save_images(tmp_path / "data" / "val", ["a.jpg"])
    (tmp_path / "list.txt").write_text(f"a.jpg 1\n{line}\n")
    with pytest.raises(UserError, match=rf"list\.txt: {message}"):
        opened(tmp_path / "data", labels=tmp_path / "list.txt")


def test_a_list_that_is_none(tmp_path):
    save_images(tmp_path / "val", ["a.jpg"])
    (tmp_path / "list.txt").write_text("\n")
    with pytest.raises(UserError, match="a right label for none"):
        opened(tmp_path, labels=tmp_path / "list.txt")
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"list\.txt: .*utf-8"):
        opened(tmp_path, labels=tmp_path / "list.txt")
    with pytest.raises(UserError, match=r"labels: .*gone\.txt: .*give JSON"):
        opened(tmp_path, labels=tmp_path / "gone.txt")
    with pytest.raises(UserError, match="nowhere: no such folder"):
        opened(tmp_path / "nowhere", labels=tmp_path / "list.txt")


def test_an_image_of_a_list_that_is_gone_when_its_turn_comes(tmp_path):
    save_images(tmp_path, ["a.jpg"])
    (tmp_path / "list.txt").write_text("a.jpg 1\n")
    dataset, _ = open_labelled(str(tmp_path), "val", eval_crop(8), WNIDS, WNIDS, labels=tmp_path / "list.txt")
    (tmp_path / "a.jpg").unlink()
    image, about = dataset[0]
    assert image is None
    assert about["path"] == str(tmp_path / "a.jpg")
    assert "cannot be read" in about["reason"]
