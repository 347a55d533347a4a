"""Every way in which the files of a data set can be wrong is named in one line."""

from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from botvision.data import CocoDetection
from botvision.errors import UserError


def message_of(folder, **options) -> str:
    with pytest.raises(UserError) as caught:
        CocoDetection(folder, "train", **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_first_images_alone_are_taken_and_needed(write_coco):
    folder = write_coco()
    (folder / "train2017" / "b.png").unlink()
    assert [target["image_id"] for _, target in CocoDetection(folder, "train", limit=1)] == [7]
    assert "b.png" in message_of(folder)


def test_without_masks_boxes_are_checked_as_with_them(write_coco, content):
    content["annotations"][0] |= {"bbox": [2, 3, 0, 5], "segmentation": []}
    folder = write_coco()
    assert CocoDetection(folder, "train", masks=False).dropped == {"box without area": 1}
    content["annotations"][0]["bbox"] = [1, 2, 3]
    assert "'bbox'" in message_of(write_coco(), masks=False)


def test_an_object_without_box_and_mask_is_named(write_coco, content):
    content["annotations"][0] |= {"bbox": None, "segmentation": []}
    assert "annotations[0] (id 1): 'bbox'" in message_of(write_coco())


@pytest.mark.parametrize(
    ("key", "change", "named"),
    [
        ("annotations", {"image_id": 99}, ["annotations[0] (id 1)", "'image_id' is 99"]),
        ("annotations", {"category_id": 4}, ["annotations[0] (id 1)", "'category_id' is 4"]),
        ("annotations", {"image_id": None}, ["annotations[0] (id 1)", "'image_id'", "found None"]),
        ("annotations", {"id": 2}, ["annotations[1] (id 2)", "unique"]),
        ("annotations", {"id": [3]}, ["annotations[0]", "'id'", "found [3]"]),
        ("annotations", {"id": 1.5}, ["annotations[0]", "'id'", "found 1.5"]),
        ("annotations", {"id": True}, ["annotations[0]", "'id'", "found True"]),
        ("annotations", {"iscrowd": 2}, ["annotations[0] (id 1)", "'iscrowd'", "2"]),
        ("annotations", {"iscrowd": [1]}, ["annotations[0] (id 1)", "'iscrowd'", "[1]"]),
        ("annotations", {"iscrowd": "no"}, ["annotations[0] (id 1)", "'iscrowd'", "'no'"]),
        ("annotations", {"bbox": [1, 2, 3]}, ["annotations[0] (id 1)", "'bbox'", "[1, 2, 3]"]),
        ("annotations", {"bbox": [1, 2, 3, "4"]}, ["annotations[0] (id 1)", "'bbox'"]),
        ("annotations", {"bbox": {}}, ["annotations[0] (id 1)", "'bbox'", "{}"]),
        ("annotations", {"segmentation": "x"}, ["annotations[0] (id 1)", "'segmentation'"]),
        ("annotations", {"segmentation": [[1, 2, 3, 4, 5]]}, ["(id 1)", "'segmentation'", "even"]),
        ("annotations", {"segmentation": [1, 2, 3, 4, 5, 6]}, ["(id 1)", "'segmentation'", "each a list"]),
        ("annotations", {"segmentation": [[1, 2, 3, 4, 5, "6"]]}, ["(id 1)", "'segmentation'", "numbers"]),
        *[
            ("annotations", {"segmentation": [[[2, 3], [6, 3], [6, 8], [2, 8], [2, 5]][:n]]}, ["(id 1)", "numbers"])
            for n in range(1, 6)
        ],
        ("annotations", {"segmentation": {"size": [10, 20], "counts": "34"}}, ["(id 1)", "'counts'", "10 x 20"]),
        ("annotations", {"segmentation": {"size": [10, 20], "counts": [2.5, 197.5]}}, ["(id 1)", "'counts'"]),
        ("annotations", {"segmentation": {"size": [20, 10], "counts": [200]}}, ["(id 1)", "[20, 10]", "[10, 20]"]),
        ("annotations", {"segmentation": {"size": [10, 20], "counts": [3, 4]}}, ["(id 1)", "'counts'", "10 x 20"]),
        ("annotations", {"segmentation": {"size": [10, 20], "counts": [-1, 201]}}, ["(id 1)", "'counts'"]),
        ("annotations", {"segmentation": {"size": [10, 20], "counts": "zz!"}}, ["(id 1)", "'counts'"]),
        ("annotations", {"segmentation": {"size": [10, 20]}}, ["(id 1)", "'counts'"]),
        ("images", {"id": 5}, ["images[1] (id 5)", "unique"]),
        ("images", {"height": "10"}, ["images[0] (id 7)", "'height'", "'10'"]),
        ("images", {"width": 0}, ["images[0] (id 7)", "'width'", "0"]),
        ("images", {"width": 80.5}, ["images[0] (id 7)", "'width'", "80.5"]),
        ("images", {"width": 10**3000}, ["images[0] (id 7)", "'width'", "1000"]),
        ("images", {"file_name": "a\0.png"}, ["images[0] (id 7)", "'file_name'"]),
        ("images", {"file_name": "\ud800.png"}, ["images[0] (id 7)", "'file_name'"]),
        ("categories", {"name": "\ud800"}, ["categories[0] (id 90)", "'name'"]),
        ("images", {"file_name": ""}, ["images[0] (id 7)", "'file_name'"]),
        ("images", {"file_name": "/etc/a.png"}, ["images[0] (id 7)", "'file_name'", "/etc/a.png", "inside"]),
        ("images", {"file_name": "C:\\a.png"}, ["images[0] (id 7)", "'file_name'", "inside"]),
        ("images", {"file_name": "../train2017/a.png"}, ["images[0] (id 7)", "'file_name'", "'..'"]),
        ("categories", {"id": 3}, ["categories[1] (id 3)", "unique"]),
        ("categories", {"name": 4}, ["categories[0] (id 90)", "'name'", "found 4"]),
    ],
)
def test_a_wrong_record_is_named(write_coco, content, key, change, named):
    content[key][0].update(change)
    message = message_of(write_coco())
    for part in ["instances_train2017.json", *named]:
        assert part in message


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_a_missing_or_wrong_list_is_named(write_coco, content, key):
    content[key][0] = 3
    assert f"{key}[0]" in message_of(write_coco())
    content[key] = {}
    assert f"'{key}' must be a list" in message_of(write_coco())
    if key != "annotations":  # which test splits lack
        del content[key]
        assert f"'{key}'" in (message := message_of(write_coco()))
        assert "missing" in message


@pytest.mark.parametrize(
    ("key", "field"),
    [
        *[("images", field) for field in ("id", "file_name", "height", "width")],
        *[("annotations", field) for field in ("id", "image_id", "category_id")],
        *[("categories", field) for field in ("id", "name")],
    ],
)
def test_a_missing_field_is_named(write_coco, content, key, field):
    del content[key][0][field]
    message = message_of(write_coco())
    assert f"{key}[0]" in message
    assert f"'{field}'" in message


@pytest.mark.parametrize("key", ["images", "categories"])
def test_an_empty_list_is_named(write_coco, content, key):
    content |= {key: [], "annotations": []}
    assert f"'{key}' is empty" in message_of(write_coco())


def test_a_cut_off_file_is_named_with_the_place(write_coco):
    folder = write_coco()
    file = folder / "annotations" / "instances_train2017.json"
    file.write_text(file.read_text()[:100])
    message = message_of(folder)
    assert str(file) in message
    assert "line 1 column" in message
    assert "cut off" in message


@pytest.mark.parametrize("text", ["[" * 100_000, '{"images": ' + "9" * 5000 + "}"], ids=["nested", "digits"])
def test_json_that_python_cannot_hold_is_one_line(write_coco, text):
    folder = write_coco()
    (folder / "annotations" / "instances_train2017.json").write_text(text)
    message = message_of(folder)
    assert "instances_train2017.json" in message
    assert len(message) < 1000


@pytest.mark.parametrize(
    ("data", "named"), [(b"[1]", "JSON object"), (b'"\xff\xfe"', "UTF-8"), (b"", "line 1 column 1")]
)
def test_a_file_of_something_else_is_named(write_coco, data, named):
    folder = write_coco()
    (folder / "annotations" / "instances_train2017.json").write_bytes(data)
    assert named in message_of(folder)


def test_a_damaged_image_met_by_a_worker_is_one_line(write_coco):
    dataset = CocoDetection(write_coco(), "train")
    path: Path = dataset.images[0].path
    path.write_bytes(path.read_bytes()[:40])
    items = iter(DataLoader(dataset, batch_size=None, num_workers=1, multiprocessing_context="fork"))
    with pytest.raises(UserError) as caught:
        next(items)
    assert [target["image_id"] for _, target in items] == [5]
    assert str(caught.value).startswith(f"{path}: cannot be read as an image")
    assert "\n" not in str(caught.value)


def test_crowd_regions_are_checked_too(write_coco, content):
    content["annotations"][0] |= {"iscrowd": 1, "bbox": [1, 2, 3]}
    assert "annotations[0] (id 1)" in message_of(write_coco())
