"""Keypoints of annotation files: against pycocotools on real annotations, and every way in which they can be wrong."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO

from botvision.data import CocoDetection
from botvision.data.keypoints import mirrored
from botvision.errors import UserError

NAMES = ["nose", "left_eye", "right_eye"]
POINTS = [3, 4, 2, 5, 6.5, 1, 0, 0, 0]


@pytest.fixture
def write_keypoints(write_coco, content):
    """Writes the two objects of `content`: a toothbrush with these keypoints, and a car, which has none."""

    def write(points=POINTS, **category) -> CocoDetection:
        content["categories"][0] |= {"keypoints": NAMES, "skeleton": [[1, 2], [1, 3]]} | category
        content["annotations"][0]["keypoints"] = points
        if points == "missing":
            del content["annotations"][0]["keypoints"]
        return CocoDetection(write_coco(), "train", keypoints=True)

    return write


@pytest.mark.parametrize("split", ["train", "val"])
def test_real_annotations_agree_with_pycocotools(coco_mini, split):
    dataset = CocoDetection(coco_mini, split, masks=False, keypoints=True)
    oracle = COCO(coco_mini / "annotations" / f"person_keypoints_{split}2017.json")
    (person,) = dataset.categories
    assert list(person.keypoints) == oracle.cats[1]["keypoints"]
    assert list(map(list, person.skeleton)) == oracle.cats[1]["skeleton"]
    with_keypoints = 0
    for index, image in enumerate(dataset.images):
        own = [instance for instance in dataset.instances(index) if not instance.crowd]
        for instance, annotation in zip(own, oracle.loadAnns(oracle.getAnnIds(image.id, iscrowd=0)), strict=True):
            assert instance.keypoints == (annotation["keypoints"] if annotation["num_keypoints"] else None)
            with_keypoints += annotation["num_keypoints"] > 0
    assert dataset.objects_with_keypoints == with_keypoints > 60
    assert dataset.changed == {"box without keypoints": dataset.objects - with_keypoints}


def test_a_target_holds_the_keypoints_from_the_middles_of_pixels(write_keypoints):
    dataset = write_keypoints()
    target = dataset[0][1]
    assert target["keypoints"][0].tolist() == [[3.5, 4.5, 2], [5.5, 7, 1], [0.5, 0.5, 0]]
    assert target["keypoints"][1, :, 2].tolist() == [0, 0, 0]  # the car's
    assert target["keypoint_mirror"].tolist() == [0, 2, 1]
    assert (dataset.objects, dataset.objects_with_keypoints, dataset.changed) == (2, 1, {})
    assert dataset[1][1]["keypoints"].shape == (0, 3, 3)  # an image without objects


@pytest.mark.parametrize("keypoints", ["missing", None, [], [0] * 9, [5, 5, 0, math.nan, 5, 0, 1, 1, 0.0]])
def test_an_object_without_keypoints_keeps_its_box_and_is_counted(write_keypoints, keypoints):
    dataset = write_keypoints(keypoints)
    assert (dataset.objects, dataset.changed) == (2, {"box without keypoints": 1})
    assert not dataset[0][1]["keypoints"][..., 2].any()


@pytest.mark.parametrize("value", [math.nan, math.inf, -1e30, 10**400])
def test_an_object_with_a_keypoint_nowhere_keeps_its_box_and_is_counted(write_keypoints, value):
    dataset = write_keypoints([value, *POINTS[1:]])
    assert (dataset.objects, dataset.changed) == (2, {"keypoints not finite": 1})
    assert dataset[0][1]["keypoints"].isfinite().all()


def test_a_crowd_without_keypoints_is_no_change(write_keypoints, content):
    content["annotations"][0]["iscrowd"] = 1
    dataset = write_keypoints(None)
    assert (dataset.dropped, dataset.changed) == ({"crowd": 1}, {})


@pytest.mark.parametrize(
    "keypoints",
    [POINTS[:8], POINTS * 2, "points", {"x": 1}, 5, True, [None] * 9, ["3"] * 9, [[3, 4, 2]] * 3, [True] * 9]
    + [[3, 4, wrong, *POINTS[3:]] for wrong in (3, -1, 0.5, math.nan, 2**70)],
)
def test_wrong_keypoints_are_refused_by_the_record(write_keypoints, keypoints):
    with pytest.raises(UserError, match=r"instances_train2017.json: annotations\[0\] \(id 1\): 'keypoints'") as caught:
        write_keypoints(keypoints)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("keypoints", names) for names in ("nose", ["nose", 3, "eye"], ["a", "a", "b"], ["", "a", "b"], 7, [[]] * 3)),
        *(
            ("skeleton", pairs)
            for pairs in (5, [1, 2], [[0, 1]], [[1, 4]], [[1, 2, 3]], [["nose", "left_eye"]], [[1.0, 2]])
        ),
    ],
)
def test_a_wrong_category_is_refused(write_keypoints, field, value):
    with pytest.raises(UserError, match=rf"categories\[0\] \(id 90\): '{field}'"):
        write_keypoints(**{field: value})


def test_a_second_list_of_keypoints_is_refused_and_the_same_one_is_not(write_keypoints, content):
    content["categories"][1]["keypoints"] = NAMES
    assert write_keypoints().changed == {"box without keypoints": 1}  # the car's now
    content["categories"][1]["keypoints"] = NAMES[::-1]
    with pytest.raises(UserError, match=r"instances_train2017.json.*'keypoints'"):
        write_keypoints()


def test_who_needs_no_keypoints_does_not_read_them(write_coco, content):
    content["categories"][0] |= {"keypoints": 3, "skeleton": "wrong"}
    content["annotations"][0]["keypoints"] = "wrong"
    dataset = CocoDetection(write_coco(), "train")
    assert not dataset.categories[1].keypoints
    assert "keypoints" not in dataset[0][1]


def test_cocos_own_file_of_keypoints_comes_first(write_keypoints, content, tmp_path):
    write_keypoints()
    del content["annotations"][1]
    file = tmp_path / "annotations" / "person_keypoints_train2017.json"
    file.write_text(json.dumps(content))
    assert CocoDetection(tmp_path, "train", keypoints=True).annotation_file == file
    assert CocoDetection(tmp_path, "train").annotation_file.name == "instances_train2017.json"


def test_left_and_right_are_exchanged_in_a_mirrored_image():
    names = ["nose", *(f"{side}_{part}" for part in ("eye", "ear", "shoulder") for side in ("left", "right"))]
    assert mirrored(names) == [0, 2, 1, 4, 3, 6, 5]
    assert mirrored(["left_ear", "tip", "left", "right", "right_hand"]) == [0, 1, 2, 3, 4]


@given(st.lists(st.sampled_from([f"{side}{part}" for side in ("left_", "right_", "") for part in "abc"]), unique=True))
def test_to_mirror_twice_changes_nothing(names):
    mirror = mirrored(names)
    assert [mirror[number] for number in mirror] == list(range(len(names)))
