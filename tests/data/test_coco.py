"""The data set against pycocotools on real annotations, and every way in which a user's files can be wrong."""

import json
import logging
import math
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from torch.utils.data import DataLoader
from torchvision import tv_tensors

from botvision.data import CocoDetection, find_split
from botvision.errors import UserError


def message_of(folder, **options) -> str:
    with pytest.raises(UserError) as caught:
        CocoDetection(folder, "train", **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def run_lengths(mask: np.ndarray) -> list[int]:
    flat = np.concatenate([[0], mask.ravel(order="F"), [2]])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(changes, prepend=0).tolist()


@pytest.mark.parametrize("split", ["train", "val"])
def test_real_photographs_agree_with_pycocotools(coco_mini, split):
    dataset = CocoDetection(coco_mini, split)
    oracle = COCO(dataset.annotation_file)
    assert [image.id for image in dataset.images] == list(oracle.imgs)
    for record, (image, target) in zip(dataset.images, dataset, strict=True):
        expected = oracle.loadAnns(oracle.getAnnIds(record.id, iscrowd=0))
        assert target["image_id"] == record.id
        assert tuple(image.shape) == (3, *target["original_size"]) == (3, record.height, record.width)
        assert [dataset.categories[int(k) - 1].id for k in target["labels"]] == [a["category_id"] for a in expected]
        for box, mask, annotation in zip(target["boxes"], target["masks"], expected, strict=True):
            x, y, width, height = annotation["bbox"]
            assert box.tolist() == pytest.approx([x, y, x + width, y + height], abs=0.02)
            assert np.array_equal(mask.numpy(), oracle.annToMask(annotation))


def test_all_three_forms_of_a_mask_agree_with_pycocotools(coco_mini, tmp_path):
    source = find_split(coco_mini, "val")
    oracle = COCO(source.annotation_file)
    content = json.loads(source.annotation_file.read_text())
    for annotation in content["annotations"]:
        form = annotation["id"] % 3
        if form and not annotation["iscrowd"]:
            runs = oracle.annToRLE(annotation)
            counts = runs["counts"].decode() if form == 1 else run_lengths(oracle.annToMask(annotation))
            annotation["segmentation"] = {"size": runs["size"], "counts": counts}
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_val.json").write_text(json.dumps(content))
    (tmp_path / "val").symlink_to(source.image_folder)  # the image folder itself may be a link
    dataset = CocoDetection(tmp_path, "val")
    compared = 0
    for record, (_, target) in zip(dataset.images, dataset, strict=True):
        expected = oracle.loadAnns(oracle.getAnnIds(record.id, iscrowd=0))
        for mask, annotation in zip(target["masks"], expected, strict=True):
            assert np.array_equal(mask.numpy(), oracle.annToMask(annotation))
            compared += 1
    assert compared > 500


def test_an_item_holds_what_the_files_say(write_coco, content):
    dataset = CocoDetection(write_coco(), "train")
    assert [(c.id, c.name) for c in dataset.categories] == [(3, "car"), (90, "toothbrush")]
    assert [category.id for category in dataset.categories] == [3, 90]
    image, target = dataset[0]
    assert isinstance(image, tv_tensors.Image)
    assert image.dtype == torch.uint8
    assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(Image.open(dataset.images[0].path)))
    assert target["labels"].tolist() == [2, 1]
    assert target["labels"].dtype == torch.int64
    assert target["boxes"].tolist() == [[2, 3, 6, 8]] * 2
    assert target["boxes"].canvas_size == target["original_size"] == (10, 20)
    expected = torch.zeros(10, 20, dtype=torch.uint8)
    expected[3:8, 2:6] = 1
    assert torch.equal(target["masks"][0].as_subclass(torch.Tensor), expected)


def test_an_image_without_objects_has_empty_targets(write_coco, content):
    folder = write_coco()
    _, target = CocoDetection(folder, "train")[-1]
    assert target["boxes"].shape == (0, 4)
    assert target["boxes"].dtype == torch.float32
    assert target["labels"].shape == (0,)
    assert target["labels"].dtype == torch.int64
    assert target["masks"].shape == (0, 12, 8)
    assert target["masks"].dtype == torch.uint8


def test_a_data_set_without_any_annotation_is_read(write_coco, content):
    content["annotations"] = []
    dataset = CocoDetection(write_coco(), "train")
    assert [len(target["labels"]) for _, target in dataset] == [0, 0]


def test_the_first_images_alone_are_taken_and_needed(write_coco):
    folder = write_coco()
    (folder / "train2017" / "b.png").unlink()
    assert [target["image_id"] for _, target in CocoDetection(folder, "train", limit=1)] == [7]
    assert "b.png" in message_of(folder)


def test_crowd_regions_are_no_targets(write_coco, content):
    content["annotations"][0]["iscrowd"] = 1
    assert CocoDetection(write_coco(), "train")[0][1]["labels"].tolist() == [1]


def test_an_annotation_without_a_segmentation_is_named(write_coco, content):
    del content["annotations"][0]["segmentation"]
    message = message_of(write_coco())
    assert "annotations[0] (id 1)" in message
    assert "'segmentation'" in message


@pytest.mark.parametrize("segmentation", [None, [], [[2, 3, 6, 8]], "no mask", {"size": [1, 1], "counts": "zz!"}])
def test_without_masks_an_object_needs_only_a_box(write_coco, content, segmentation):
    if segmentation is None:
        del content["annotations"][0]["segmentation"]
    else:
        content["annotations"][0]["segmentation"] = segmentation
    dataset = CocoDetection(write_coco(), "train", masks=False)
    image, target = dataset[0]
    assert image.shape == (3, 10, 20)
    assert target["boxes"].tolist() == [[2, 3, 6, 8]] * 2
    assert target["labels"].tolist() == [2, 1]
    assert "masks" not in target
    assert dataset.dropped == {}


def test_without_masks_boxes_are_checked_as_with_them(write_coco, content):
    content["annotations"][0]["bbox"] = [2, 3, 0, 5]
    folder = write_coco()
    assert CocoDetection(folder, "train", masks=False).dropped == {"box without area": 1}
    content["annotations"][0]["bbox"] = None
    assert "'bbox'" in message_of(write_coco(), masks=False)


@pytest.mark.parametrize("split", ["train", "val"])
def test_real_photographs_have_the_same_boxes_with_and_without_masks(coco_mini, split):
    with_masks, without = (CocoDetection(coco_mini, split, masks=masks) for masks in (True, False))
    for number in range(0, len(without), 7):
        (image, expected), (same_image, target) = with_masks[number], without[number]
        assert torch.equal(same_image, image)
        assert target.keys() == expected.keys() - {"masks"}
        assert torch.equal(target["boxes"], expected["boxes"])
        assert torch.equal(target["labels"], expected["labels"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"bbox": [2, 3, 0, 5]}, "box without area"),
        ({"bbox": [2, 3, 4, -5]}, "box without area"),
        ({"bbox": [20, 3, 4, 5]}, "box outside its image"),
        ({"bbox": [2, -5, 4, 5]}, "box outside its image"),
        ({"bbox": [2, math.nan, 4, 5]}, "box not finite"),
        ({"bbox": [2, 3, math.inf, 5]}, "box not finite"),
        ({"segmentation": []}, "mask without area"),
        ({"segmentation": [[2, 3, 6, 8]]}, "mask without area"),
        ({"segmentation": [[2, 3, 6, math.nan, 6, 8]]}, "mask without area"),
        ({"segmentation": [[2, 3, 6, 1e9, 6, 8]]}, "mask without area"),
        ({"segmentation": {"size": [10, 20], "counts": [200]}}, "mask without area"),
    ],
)
def test_annotations_that_teach_nothing_are_left_out_and_reported_once(write_coco, content, caplog, change, reason):
    content["annotations"][0].update(change)
    folder = write_coco()
    with caplog.at_level(logging.WARNING, "botvision"):
        dataset = CocoDetection(folder, "train")
    assert dataset.dropped == {reason: 1}
    (record,) = caplog.records
    assert f"1 {reason}" in record.getMessage()
    assert dataset[0][1]["labels"].tolist() == [1]


def test_boxes_are_clipped_to_the_image(write_coco, content):
    content["annotations"][0]["bbox"] = [-3, -2.5, 100, 5]
    dataset = CocoDetection(write_coco(), "train")
    assert dataset[0][1]["boxes"][0].tolist() == [0, 0, 20, 2.5]
    assert dataset.dropped == {}


@pytest.mark.parametrize(
    ("key", "change", "named"),
    [
        ("annotations", {"image_id": 99}, ["annotations[0] (id 1)", "'image_id' is 99"]),
        ("annotations", {"category_id": 4}, ["annotations[0] (id 1)", "'category_id' is 4"]),
        ("annotations", {"image_id": None}, ["annotations[0] (id 1)", "'image_id'", "found None"]),
        ("annotations", {"id": 2}, ["annotations[1] (id 2)", "unique"]),
        ("annotations", {"id": "x"}, ["annotations[0]", "'id'", "found 'x'"]),
        ("annotations", {"bbox": [1, 2, 3]}, ["annotations[0] (id 1)", "'bbox'", "[1, 2, 3]"]),
        ("annotations", {"bbox": [1, 2, 3, "4"]}, ["annotations[0] (id 1)", "'bbox'"]),
        ("annotations", {"bbox": None}, ["annotations[0] (id 1)", "'bbox'", "None"]),
        ("annotations", {"segmentation": "x"}, ["annotations[0] (id 1)", "'segmentation'"]),
        ("annotations", {"segmentation": [[1, 2, 3, 4, 5]]}, ["(id 1)", "'segmentation'", "even"]),
        ("annotations", {"segmentation": [1, 2, 3, 4, 5, 6]}, ["(id 1)", "'segmentation'", "each a list"]),
        ("annotations", {"segmentation": [[1, 2, 3, 4, 5, "6"]]}, ["(id 1)", "'segmentation'", "numbers"]),
        ("annotations", {"segmentation": {"size": [20, 10], "counts": [200]}}, ["(id 1)", "[20, 10]", "[10, 20]"]),
        ("annotations", {"segmentation": {"size": [10, 20], "counts": [3, 4]}}, ["(id 1)", "'counts'", "10 x 20"]),
        ("annotations", {"segmentation": {"size": [10, 20], "counts": [-1, 201]}}, ["(id 1)", "'counts'"]),
        ("annotations", {"segmentation": {"size": [10, 20], "counts": "zz!"}}, ["(id 1)", "'counts'"]),
        ("annotations", {"segmentation": {"size": [10, 20]}}, ["(id 1)", "'counts'"]),
        ("images", {"id": 5}, ["images[1] (id 5)", "unique"]),
        ("images", {"height": "10"}, ["images[0] (id 7)", "'height'", "'10'"]),
        ("images", {"width": 0}, ["images[0] (id 7)", "'width'", "0"]),
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
    del content[key]
    assert f"'{key}'" in (message := message_of(write_coco()))
    assert "missing" in message


@pytest.mark.parametrize(
    ("key", "field"),
    [
        *[("images", field) for field in ("id", "file_name", "height", "width")],
        *[("annotations", field) for field in ("id", "image_id", "category_id", "bbox", "segmentation")],
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


@pytest.mark.parametrize(
    ("data", "named"), [(b"[1]", "JSON object"), (b'"\xff\xfe"', "UTF-8"), (b"", "line 1 column 1")]
)
def test_a_file_of_something_else_is_named(write_coco, data, named):
    folder = write_coco()
    (folder / "annotations" / "instances_train2017.json").write_bytes(data)
    assert named in message_of(folder)


def test_the_split_is_found_with_and_without_the_year(write_coco):
    folder = write_coco(layout="val2017")
    assert find_split(folder, "val").image_folder == folder / "val2017"
    write_coco(layout="holdout")
    found = find_split(folder, "holdout")
    assert found == (folder / "annotations" / "instances_holdout.json", folder / "holdout")


def test_what_is_missing_of_the_layout_is_named(write_coco, tmp_path):
    assert str(tmp_path / "nowhere") in message_of(tmp_path / "nowhere")
    folder = write_coco()
    with pytest.raises(UserError, match=r"neither instances_val2017\.json nor instances_val\.json"):
        find_split(folder, "val")
    shutil.rmtree(folder / "train2017")
    assert str(folder / "train2017") in message_of(folder)


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
    message = message_of(folder)
    assert str(image) in message
    assert "outside the image folder" in message


def test_a_copy_in_another_process_gives_the_same_items(write_coco):
    dataset = CocoDetection(write_coco(), "train")
    copy = pickle.loads(pickle.dumps(dataset))
    for (image, target), (other_image, other_target) in zip(dataset, copy, strict=True):
        assert torch.equal(image, other_image)
        for name in ("boxes", "labels", "masks"):
            assert torch.equal(target[name], other_target[name])


def test_a_compressed_mask_that_ends_early_is_named(write_coco, content):
    content["annotations"][0]["segmentation"] = {"size": [10, 20], "counts": "34"}
    dataset = CocoDetection(write_coco(), "train")
    with pytest.raises(UserError, match=r"instances_train2017\.json: a 'segmentation' of image 7 .* 200"):
        dataset[0]


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


def test_an_index_out_of_range_is_refused(write_coco):
    dataset = CocoDetection(write_coco(), "train")
    with pytest.raises(IndexError):
        dataset[2]


def test_crowd_regions_are_checked_too(write_coco, content):
    content["annotations"][0]["iscrowd"] = 1
    del content["annotations"][0]["bbox"]
    assert "annotations[0] (id 1)" in message_of(write_coco())


def test_what_is_dropped_is_known_by_its_id(write_coco, content):
    content["annotations"][1]["bbox"] = [2, 3, 0, 5]
    assert CocoDetection(write_coco(), "train").dropped_ids == {2}
