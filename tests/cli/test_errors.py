"""What the user can mend: exit status 2, one line on standard error that names it, and nothing half-written."""

import shutil

import pytest
from PIL import Image

from botvision.cli import main

TRAIN = "annotations/instances_train2017.json"
VAL = "annotations/instances_val2017.json"


# --- data ---


def test_a_data_folder_that_is_not_there(refused_training, data):
    shutil.rmtree(data)
    assert str(data) in refused_training()


def test_no_data_folder_given(refusal):
    assert "--data" in refusal("train", "small/botnet50", "--device", "cpu")


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_data_folder_without_annotations(refused_training, data, split):
    (data / "annotations" / f"instances_{split}2017.json").unlink()
    assert f"instances_{split}2017.json" in refused_training()


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_data_folder_without_images(refused_training, data, split):
    shutil.rmtree(data / f"{split}2017")
    assert str(data / f"{split}2017") in refused_training()


def test_json_cut_off_in_the_middle(refused_training, data):
    text = (data / TRAIN).read_text()
    (data / TRAIN).write_text(text[: len(text) // 2])
    assert str(data / TRAIN) in refused_training()


@pytest.mark.parametrize(("field", "number"), [("category_id", 999), ("image_id", 999)])
def test_an_annotation_of_an_unknown_category_or_image(refused_training, change, data, field, number):
    change(data / TRAIN, lambda content: content["annotations"][3].update({field: number}))
    line = refused_training()
    assert f"'{field}' is {number}" in line
    assert "annotations[3]" in line


@pytest.mark.parametrize("name", ["../train2017/000000000001.jpg", "/etc/passwd", "C:\\a.jpg"])
def test_a_file_name_that_leads_out_of_the_folder(refused_training, change, data, name):
    change(data / TRAIN, lambda content: content["images"][0].update(file_name=name))
    line = refused_training()
    assert "file_name" in line
    assert "images[0]" in line


def test_splits_with_other_categories(refused_training, change, data):
    change(data / VAL, lambda content: content["categories"].append({"id": 99, "name": "more"}))
    message = refused_training()
    assert "categories" in message
    assert "'more' (id 99)" in message


def first_image(data):
    return data / "train2017" / "000000000001.jpg"


def missing(file):
    file.unlink()


def empty(file):
    file.write_bytes(b"")


def truncated(file):
    file.write_bytes(file.read_bytes()[:700])


def resized(file):
    Image.new("RGB", (33, 44)).save(file)


def another_format(file):
    file.write_text("no image at all")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("damage", [missing, empty, truncated, resized, another_format])
def test_a_bad_image_file(refused_training, data, damage, workers):
    damage(first_image(data))
    line = refused_training("--workers", workers, "--batch-size", 8)
    assert str(first_image(data)) in line
    if damage is resized:
        assert "44 high and 33 wide" in line


def test_a_bad_image_file_in_evaluation_and_prediction(refusal, finished_run, data, tmp_path):
    file = data / "val2017" / "000000000009.jpg"
    truncated(file)
    for workers in (0, 1):
        assert str(file) in refusal("eval", finished_run, "--data", data, "--workers", workers, "--out", tmp_path / "e")
    assert not (tmp_path / "e").exists()
    assert str(file) in refusal("predict", finished_run, file, "--out", tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_boxes_that_teach_nothing_are_left_out_and_counted_in_one_line(
    change, data, tiny_flags, tmp_path, capsys, caplog
):
    def spoil(content):
        content["annotations"][0]["bbox"] = [3, 3, 0, 10]
        content["annotations"][1]["bbox"] = [300, 3, 10, 10]
        content["annotations"][2]["bbox"] = [3, -30, 10, 10]

    change(data / TRAIN, spoil)
    with pytest.raises(SystemExit) as caught:
        main(["train", "small/botnet50", *tiny_flags, "--data", str(data), "--out", str(tmp_path / "run")])
    assert caught.value.code == 0
    messages = [record.getMessage() for record in caplog.records]
    left_out = "left out 3 annotations: 2 box outside its image, 1 box without area"
    assert sum(left_out in message for message in messages) == 1
    assert not any("\n" in message for message in messages)
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()
