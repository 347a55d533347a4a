"""Where the files of a data set are: the layouts of the tools that write COCO's format, and spellings of names."""

import logging
import os
import shutil
import unicodedata
from pathlib import Path

import pytest

from botvision.configuration import FieldError
from botvision.data import CocoDetection, find_split
from botvision.errors import UserError


def message_of(folder: Path, split: str = "train", **options) -> str:
    with pytest.raises(UserError) as caught:
        CocoDetection(folder, split, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_split_is_found_with_and_without_the_year(write_coco):
    folder = write_coco(layout="val2017")
    assert find_split(folder, "val").image_folder == folder / "val2017"
    write_coco(layout="holdout")
    found = find_split(folder, "holdout")
    assert found == (folder / "annotations" / "instances_holdout.json", folder / "holdout")


def test_what_is_missing_of_the_layout_is_named(write_coco, tmp_path):
    assert str(tmp_path / "nowhere") in message_of(tmp_path / "nowhere")
    folder = write_coco()
    message = message_of(folder, "val")
    for name in ("instances_val2017.json", "instances_val.json", "annotations/instances_train2017.json", "train2017/"):
        assert name in message
    (folder / "train2017").rename(folder / "photographs")
    message = message_of(folder)
    assert str(folder / "train2017") in message
    assert "photographs/" in message


@pytest.mark.parametrize(("there", "missing"), [(["train"], "val"), (["train", "test"], "val"), (["val2017"], "train")])
@pytest.mark.parametrize("is_roboflow", [False, True])
def test_a_missing_split_is_answered_with_the_command_that_makes_it(write_coco, there, missing, is_roboflow):
    for name in there:
        folder = write_coco(name)
        file = folder / "annotations" / f"instances_{name}.json"
        if is_roboflow:
            file.rename(folder / name / "_annotations.coco.json")
    source = f"{there[0]}/_annotations.coco.json" if is_roboflow else f"annotations/instances_{there[0]}.json"
    if is_roboflow:
        file.parent.rmdir()
    assert f"botvision data split {folder / source} --out {folder}-split" in message_of(folder, missing)


def test_a_missing_split_that_no_file_can_make_is_not_answered_with_a_command(write_coco):
    folder = write_coco("train")
    assert "data split" not in message_of(folder, "test")  # it makes train and val
    (folder / "train").rename(folder / "photographs")
    assert "data split" not in message_of(folder, "val")  # the file's images would not be found


@pytest.mark.parametrize(
    ("split", "annotations", "images"),
    [
        ("train", "train/_annotations.coco.json", "train"),
        ("val", "valid/_annotations.coco.json", "valid"),
        ("valid", "valid/_annotations.coco.json", "valid"),
        ("test", "test/_annotations.coco.json", "test"),
        ("train", "annotations/instances_default.json", "images/default"),
        ("train", "annotations/instances_default.json", "images"),
        ("default", "annotations/instances_default.json", "images/default"),
        ("val", "annotations/instances_val2017.json", "images/val2017"),
        ("val", "annotations/instances_val.json", "images"),
        ("train", "train/labels.json", "train/images"),
        ("train", "result.json", "images"),
        ("test", "export.json", "."),
    ],
)
def test_layouts_of_other_tools_are_found_and_said(write_coco, tmp_path, caplog, split, annotations, images):
    source = write_coco()
    folder = tmp_path / "other"
    (folder / images).mkdir(parents=True)
    for image in (source / "train2017").iterdir():
        shutil.copy(image, folder / images)
    (folder / annotations).parent.mkdir(exist_ok=True)
    shutil.copy(source / "annotations" / "instances_train2017.json", folder / annotations)
    with caplog.at_level(logging.INFO, "botvision"):
        assert find_split(folder, split) == (folder / annotations, folder / images)
    (record,) = caplog.records
    assert str(folder / annotations) in record.getMessage()
    assert str(folder / images) in record.getMessage()
    assert CocoDetection(folder, split)[0][0].shape == (3, 10, 20)


def test_only_the_training_split_is_looked_for_under_another_name(write_coco):
    folder = write_coco("default")
    assert find_split(folder, "train").image_folder == folder / "default"
    assert "annotations/instances_default.json" in message_of(folder, "val")  # nobody asked to score on that


@pytest.mark.parametrize(
    "second", ["annotations/instances_train.json", "train/_annotations.coco.json", "images/train2017/"]
)
def test_where_two_places_are_possible_both_are_named(write_coco, second):
    folder = write_coco()
    (folder / second).parent.mkdir(parents=True, exist_ok=True)
    (folder / "train").mkdir(exist_ok=True)
    if second.endswith("/"):
        (folder / second).mkdir()
        named = ["train2017", second.rstrip("/")]
    else:
        (folder / second).write_text("{}")
        named = ["annotations/instances_train2017.json", second]
    message = message_of(folder)
    for name in named:
        assert str(folder / name) in message


def test_a_folder_with_two_json_files_is_not_guessed(write_coco, tmp_path):
    folder = tmp_path / "flat"
    folder.mkdir()
    for name in ("a.json", "b.json"):
        (folder / name).write_text("{}")
    message = message_of(folder)
    assert "a.json" in message
    assert "b.json" in message


def test_missing_and_empty_image_files_are_counted_at_the_start(write_coco):
    folder = write_coco()
    (folder / "train2017" / "b.png").write_bytes(b"")
    assert "b.png: image file is empty (1 such" in message_of(folder)
    (folder / "train2017" / "a.png").unlink()
    (folder / "train2017" / "b.png").unlink()
    assert "a.png: image file is missing (2 such" in message_of(folder)


def test_images_may_lie_in_folders_of_their_own(write_coco, content):
    content["images"][0]["file_name"] = "deeper/a.png"
    folder = write_coco()
    assert "deeper/a.png: image file is missing (1 such" in message_of(folder)
    (folder / "train2017" / "deeper").mkdir()
    shutil.move(folder / "train2017" / "a.png", folder / "train2017" / "deeper" / "a.png")
    assert CocoDetection(folder, "train")[0][0].shape == (3, 10, 20)


def test_links_must_stay_inside_the_image_folder(write_coco):
    folder = write_coco()
    image = folder / "train2017" / "a.png"
    image.rename(folder / "train2017" / "other.png")
    image.symlink_to("other.png")
    assert CocoDetection(folder, "train")[0][0].shape == (3, 10, 20)
    (folder / "train2017" / "other.png").rename(folder / "outside.png")
    image.unlink()
    image.symlink_to(folder / "outside.png")
    with pytest.raises(FieldError) as caught:
        CocoDetection(folder, "train")
    assert caught.value.path[-1] == "follow_links"
    assert str(image) in str(caught.value)
    assert CocoDetection(folder, "train", follow_links=True)[0][0].shape == (3, 10, 20)


def test_folders_that_are_links_must_stay_inside_too(write_coco, content, tmp_path):
    content["images"][0]["file_name"] = "deeper/a.png"
    folder = write_coco()
    (tmp_path / "elsewhere").mkdir()
    shutil.move(folder / "train2017" / "a.png", tmp_path / "elsewhere" / "a.png")
    (folder / "train2017" / "deeper").symlink_to(tmp_path / "elsewhere")
    assert str(folder / "train2017" / "deeper") in message_of(folder)
    assert CocoDetection(folder, "train", follow_links=True)[0][0].shape == (3, 10, 20)


COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "Zoë é.png") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("images\\a.png", "images/a.png"),
        ("train2017/a.png", "a.png"),
        ("train2017\\a.png", "a.png"),
        ("./a.png", "a.png"),
        (COMPOSED, DECOMPOSED),
        (DECOMPOSED, COMPOSED),
        (f"x\\{DECOMPOSED}", f"x/{COMPOSED}"),
        (os.fsdecode(b"\xff.png"), os.fsdecode(b"\xff.png")),
    ],
)
def test_an_image_is_found_by_other_spellings_of_its_name(write_coco, content, written, stored):
    content["images"][0]["file_name"] = written
    folder = write_coco()
    image = folder / "train2017" / "a.png"
    (image.parent / stored).parent.mkdir(exist_ok=True)
    image.rename(image.parent / stored)
    dataset = CocoDetection(folder, "train")
    assert dataset.images[0].path == image.parent / stored
    assert dataset[0][0].shape == (3, 10, 20)


def test_a_folder_of_the_name_of_an_image_is_no_image(write_coco):
    folder = write_coco()
    (folder / "train2017" / "a.png").unlink()
    os.mkfifo(folder / "train2017" / "a.png")
    assert "a.png: image file is missing" in message_of(folder)
    (folder / "train2017" / "a.png").unlink()
    (folder / "train2017" / "a.png").mkdir()
    assert "a.png: image file is missing" in message_of(folder)


def test_a_name_too_long_for_a_file_is_missing(write_coco, content):
    content["images"][0]["file_name"] = "x" * 300 + "/a.png"
    assert "image file is missing" in message_of(write_coco())
