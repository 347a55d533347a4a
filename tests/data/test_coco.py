"""The data set against pycocotools on real annotations, and what it makes of odd files."""

import json
import math
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from torchvision import tv_tensors

from botvision.data import Category, CocoDetection, find_split


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


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_every_encoding_of_json_is_read(write_coco, content, encoding):
    content["categories"][0]["name"] = "Zahnbürste"
    folder = write_coco()
    file = folder / "annotations" / "instances_train2017.json"
    file.write_bytes(json.dumps(content, ensure_ascii=False).encode(encoding))
    assert CocoDetection(folder, "train").categories[1].name == "Zahnbürste"


def test_a_copy_in_another_process_gives_the_same_items(write_coco):
    dataset = CocoDetection(write_coco(), "train")
    copy = pickle.loads(pickle.dumps(dataset))
    for (image, target), (other_image, other_target) in zip(dataset, copy, strict=True):
        assert torch.equal(image, other_image)
        for name in ("boxes", "labels", "masks"):
            assert torch.equal(target[name], other_target[name])


def test_an_index_out_of_range_is_refused(write_coco):
    dataset = CocoDetection(write_coco(), "train")
    with pytest.raises(IndexError):
        dataset[2]
