"""The data set against pycocotools on real annotations, and every way in which a user's files can be wrong."""

import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from torch.utils.data import DataLoader
from torchvision import tv_tensors

from botvision.data import Category, CocoDetection, find_split
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
    assert target["has_mask"].shape == (0,)


def test_a_data_set_without_any_annotation_is_read(write_coco, content):
    content["annotations"] = []
    dataset = CocoDetection(write_coco(), "train")
    assert [len(target["labels"]) for _, target in dataset] == [0, 0]


def test_the_first_images_alone_are_taken_and_needed(write_coco):
    folder = write_coco()
    (folder / "train2017" / "b.png").unlink()
    assert [target["image_id"] for _, target in CocoDetection(folder, "train", limit=1)] == [7]
    assert "b.png" in message_of(folder)


@pytest.mark.parametrize("value", [1, 1.0, "1", True])
def test_crowd_regions_are_no_targets_and_counted(write_coco, content, value):
    content["annotations"][0]["iscrowd"] = value
    dataset = CocoDetection(write_coco(), "train")
    assert dataset[0][1]["labels"].tolist() == [1]
    assert (dataset.dropped, dataset.objects) == ({"crowd": 1}, 1)
    assert [instance.crowd for instance in dataset.instances(0)] == [True, False]


@pytest.mark.parametrize("value", [0, 0.0, "0", False, None])
def test_what_is_no_crowd_is_a_target(write_coco, content, value):
    content["annotations"][0]["iscrowd"] = value
    assert CocoDetection(write_coco(), "train").objects == 2


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
@pytest.mark.parametrize("make", [lambda n: 2**70 + n, lambda n: -n, str, float, lambda n: f"{n:032x}-ü"])
def test_ids_are_whole_numbers_or_texts(write_coco, content, key, make):
    field = {"images": "image_id", "categories": "category_id"}.get(key)
    before = [CocoDetection(write_coco(), "train")[n][1] for n in range(2)]
    for record in content[key]:
        record["id"] = make(record["id"])
    for record in content["annotations"] if field else []:
        record[field] = make(record[field])
    dataset = CocoDetection(write_coco(), "train")
    names = {category.name: label for label, category in enumerate(dataset.categories, start=1)}
    for (_, target), expected in zip(dataset, before, strict=True):
        assert torch.equal(target["boxes"], expected["boxes"])
        assert torch.equal(target["masks"], expected["masks"])
    assert dataset[0][1]["labels"].tolist() == [names["toothbrush"], names["car"]]
    assert [image.id for image in dataset.images] == [record["id"] for record in content["images"]]


def test_sizes_may_be_written_as_80_0(write_coco, content):
    content["images"][0] |= {"height": 10.0, "width": 20.0}
    content["annotations"][0]["segmentation"] = {"size": [10.0, 20.0], "counts": [0, 200]}
    assert CocoDetection(write_coco(), "train")[0][1]["masks"].shape == (2, 10, 20)


def test_other_names_of_a_data_set_are_labels_of_the_given_list(write_coco, content):
    content["categories"] = [{"id": 90, "name": "toothbrush"}, {"id": 3, "name": "car"}]
    dataset = CocoDetection(write_coco(), "train")
    dataset.use_categories([Category(2, "bus"), Category(3, "car"), Category(7, "cat"), Category(90, "toothbrush")])
    assert dataset[0][1]["labels"].tolist() == [4, 2]


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
    content["annotations"][0] |= {"bbox": [2, 3, 0, 5], "segmentation": []}
    folder = write_coco()
    assert CocoDetection(folder, "train", masks=False).dropped == {"box without area": 1}
    content["annotations"][0]["bbox"] = [1, 2, 3]
    assert "'bbox'" in message_of(write_coco(), masks=False)


@pytest.mark.parametrize("split", ["train", "val"])
def test_real_photographs_have_the_same_boxes_with_and_without_masks(coco_mini, split):
    with_masks, without = (CocoDetection(coco_mini, split, masks=masks) for masks in (True, False))
    for number in range(0, len(without), 7):
        (image, expected), (same_image, target) = with_masks[number], without[number]
        assert torch.equal(same_image, image)
        assert target.keys() == expected.keys() - {"masks", "has_mask"}
        assert torch.equal(target["boxes"], expected["boxes"])
        assert torch.equal(target["labels"], expected["labels"])


BAD_BOXES = [
    ([2, 3, 0, 5], "box without area"),
    ([2, 3, 4, -5], "box without area"),
    ([20, 3, 4, 5], "box outside its image"),
    ([2, -5, 4, 5], "box outside its image"),
    ([2, math.nan, 4, 5], "box not finite"),
    ([2, 3, math.inf, 5], "box not finite"),
    ([2, 3, 10**400, 5], "box not finite"),
]


@pytest.mark.parametrize(("box", "reason"), BAD_BOXES)
def test_objects_without_a_usable_box_are_left_out_and_counted(write_coco, content, box, reason):
    content["annotations"][0]["bbox"] = box
    dataset = CocoDetection(write_coco(), "train")
    assert (dataset.dropped, dataset.objects) == ({reason: 1}, 1)
    assert dataset[0][1]["labels"].tolist() == [1]


@pytest.mark.parametrize("box", [None, []])
def test_a_missing_box_is_made_from_the_mask(write_coco, content, box):
    content["annotations"][0]["bbox"] = box
    content["annotations"][1].pop("bbox")
    for masks in (True, False):
        dataset = CocoDetection(write_coco(), "train", masks=masks)
        assert dataset[0][1]["boxes"].tolist() == [[2, 3, 6, 8]] * 2
        assert (dataset.dropped, dataset.changed) == ({}, {"box from the mask": 2})


def test_an_object_without_box_and_mask_is_named(write_coco, content):
    content["annotations"][0] |= {"bbox": None, "segmentation": []}
    assert "annotations[0] (id 1): 'bbox'" in message_of(write_coco())


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        (None, "box without mask"),
        ([], "box without mask"),
        ([[]], "mask without pixels"),
        ([[2, 3, 6, 8]], "mask without pixels"),
        ([[2, 3, 4, 5, 6, 7]], "mask without pixels"),
        ([[30, 3, 50, 3, 50, 9]], "mask without pixels"),
        ([[2, 3, 6, math.nan, 6, 8]], "mask without pixels"),
        ([[2, 3, 6, 1e9, 6, 8]], "mask without pixels"),
        ([[2, 3, 6, 10**400, 6, 8]], "mask without pixels"),
        ([[0, 0, 90_000, 0] * 1000], "mask without pixels"),
        ({"size": [10, 20], "counts": [200]}, "mask without pixels"),
    ],
)
def test_an_object_without_a_usable_mask_stays_and_is_counted(write_coco, content, segmentation, reason):
    content["annotations"][0]["segmentation"] = segmentation
    dataset = CocoDetection(write_coco(), "train")
    assert (dataset.dropped, dataset.changed) == ({}, {reason: 1})
    assert (dataset.objects, dataset.objects_with_mask) == (2, 1)
    target = dataset[0][1]
    assert target["labels"].tolist() == [2, 1]
    assert (target["has_mask"].dtype, target["has_mask"].tolist()) == (torch.bool, [False, True])
    assert target["masks"].flatten(1).any(dim=1).tolist() == [False, True]


def test_boxes_are_clipped_to_the_image(write_coco, content):
    content["annotations"][0]["bbox"] = [-3, -2.5, 100, 5]
    dataset = CocoDetection(write_coco(), "train")
    assert dataset[0][1]["boxes"][0].tolist() == [0, 0, 20, 2.5]
    assert dataset.dropped == {}
    assert dataset.changed == {"box cut at the edge of its image": 1}


def test_a_box_that_reaches_out_by_rounding_is_no_change(write_coco, content):
    content["annotations"][0]["bbox"] = [-0.5, -1, 21, 5]
    assert CocoDetection(write_coco(), "train").changed == {}


def test_a_name_that_would_steer_a_terminal_is_read_with_its_codes_written_out(write_coco, content):
    content["categories"][0]["name"] = "a\x1b[31mred"
    names = [category.name for category in CocoDetection(write_coco(), "train").categories]
    assert "a\\x1b[31mred" in names


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


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_every_encoding_of_json_is_read(write_coco, content, encoding):
    content["categories"][0]["name"] = "Zahnbürste"
    folder = write_coco()
    file = folder / "annotations" / "instances_train2017.json"
    file.write_bytes(json.dumps(content, ensure_ascii=False).encode(encoding))
    assert CocoDetection(folder, "train").categories[1].name == "Zahnbürste"


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


def test_a_copy_in_another_process_gives_the_same_items(write_coco):
    dataset = CocoDetection(write_coco(), "train")
    copy = pickle.loads(pickle.dumps(dataset))
    for (image, target), (other_image, other_target) in zip(dataset, copy, strict=True):
        assert torch.equal(image, other_image)
        for name in ("boxes", "labels", "masks"):
            assert torch.equal(target[name], other_target[name])


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
    content["annotations"][0] |= {"iscrowd": 1, "bbox": [1, 2, 3]}
    assert "annotations[0] (id 1)" in message_of(write_coco())
