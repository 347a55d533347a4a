"""One annotation file shared out over train and val: by image, by class, and the same again."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from botvision.data import CocoDetection
from botvision.data.splitting import stratified


def random_classes(images: int = 400) -> list[set]:
    """Images with several of 12 classes, from very frequent ones to one of two images."""
    rng = np.random.default_rng(0)
    chances = np.maximum(0.6 ** np.arange(1, 13), 0.03)
    found = [set(np.flatnonzero(rng.random(12) < chances).tolist()) for _ in range(images)]
    found[3] |= {"rare"}
    found[7] |= {"rare"}
    return found


@pytest.mark.parametrize("val", [0.1, 0.2, 0.5])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_class_has_its_share_in_both_splits(val, seed):
    classes = random_classes()
    in_val = stratified(classes, val, seed)
    assert abs(in_val.sum() - val * len(classes)) <= 2
    for category in set().union(*classes):
        own = in_val[[category in one for one in classes]]
        assert 0 < own.sum() < len(own)
        assert abs(own.sum() - val * len(own)) <= max(2, 0.1 * val * len(own)), category


@given(st.lists(st.sets(st.integers(0, 8), max_size=4), min_size=2, max_size=20), st.integers(0, 3))
def test_train_has_every_class_whatever_the_images_have(classes, seed):
    in_val = stratified(classes, 0.3, seed)
    of_train = [one for one, is_val in zip(classes, in_val, strict=True) if not is_val]
    assert set().union(*of_train) == set().union(*classes)


def test_classes_that_val_has_nothing_of_are_named(run, refusal, write_coco, content, tmp_path, caplog):
    """Class 7 is in one image, which class 9 wants in val: it has two."""
    content["categories"] = [{"id": 7, "name": "alone"}, {"id": 9, "name": "pair"}]
    content["annotations"] = [
        {"id": number, "image_id": image, "category_id": category, "bbox": [1, 1, 5, 4]}
        for number, (image, category) in enumerate([(5, 7), (5, 9), (7, 9)], start=1)
    ]
    file = write_coco("train2017") / "annotations" / "instances_train2017.json"
    assert run("data", "split", file, "--out", tmp_path / "out")[0] == 0
    assert "'alone'" in caplog.text
    assert "'pair'" not in caplog.text
    content["annotations"][2]["category_id"] = 7
    content["annotations"][0]["category_id"] = 9
    content["annotations"] = content["annotations"][1:]
    write_coco("train2017")
    assert "val" in refusal("data", "split", file, "--out", tmp_path / "none")


def test_the_same_seed_gives_the_same_splits_and_another_seed_others():
    classes = random_classes()
    assert (stratified(classes, 0.2, 0) == stratified(classes, 0.2, 0)).all()
    assert (stratified(classes, 0.2, 0) != stratified(classes, 0.2, 1)).any()
    assert stratified([set()] * 10, 0.3, 0).sum() == 3
    assert stratified([{1}, {1}], 0.2, 0).sum() == 1


@pytest.mark.parametrize("layout", ["annotations", "beside", "images"])
def test_both_splits_are_read_and_hold_all_that_the_file_has(run, write_coco, content, tmp_path, layout):
    content["images"][0]["file_name"] = "deeper\\a.png"
    content["images"] += [{"id": 20 + n, "file_name": f"{n}.png", "height": 10, "width": 20} for n in range(8)]
    content["annotations"] += [
        {"id": 30 + n, "image_id": 20 + n, "category_id": 3, "bbox": [1, 1, 5, 4 + n / 10]} for n in range(8)
    ]
    content["info"] = {"year": 2026}
    folder = write_coco("train2017") / "train2017"
    (folder / "deeper").mkdir()
    (folder / "a.png").rename(folder / "deeper" / "a.png")
    for number in range(8):
        Image.new("RGB", (20, 10)).save(folder / f"{number}.png")
    file = tmp_path / "annotations" / "instances_train2017.json"
    if layout != "annotations":
        file = file.rename((folder if layout == "beside" else tmp_path) / "labels.json")
    if layout == "images":
        folder.rename(tmp_path / "images")
    status, out, err = run("data", "split", file, "--val", 0.3, "--out", tmp_path / "out", "--json")
    assert status == 0, err
    assert sum(part["images"] for part in json.loads(out).values()) == 10
    found = {name: CocoDetection(tmp_path / "out", name, masks=False) for name in ("train", "val")}
    ids = {name: {image.id for image in dataset.images} for name, dataset in found.items()}
    assert ids["train"] & ids["val"] == set()
    assert ids["train"] | ids["val"] == {5, 7, *range(20, 28)}
    boxes = [one["boxes"].tolist() for dataset in found.values() for _, one in dataset]
    assert sum(map(len, boxes)) == len(content["annotations"])
    written = json.loads((tmp_path / "out" / "annotations" / "instances_val.json").read_text())
    assert written["info"] == {"year": 2026}
    assert written["categories"] == content["categories"]


@pytest.mark.parametrize("seed", range(4))
def test_a_file_under_several_ids_names_and_links_is_in_one_split(run, write_coco, content, tmp_path, seed):
    """Ten photographs, each as three images: twice by its name, and by a link."""
    folder = write_coco("train2017") / "train2017"
    content["images"], content["annotations"] = [], []
    for number in range(30):
        photograph, way = divmod(number, 3)
        name = f"{photograph}.png" if way < 2 else f"link-{photograph}.png"
        if way == 0:
            Image.new("RGB", (20, 10), (photograph, 0, 0)).save(folder / name)
        elif way == 2:
            (folder / name).symlink_to(f"{photograph}.png")
        content["images"].append({"id": number, "file_name": name, "height": 10, "width": 20})
        content["annotations"].append({"id": number, "image_id": number, "category_id": 3, "bbox": [1, 1, 5, 4]})
    (tmp_path / "annotations" / "instances_train2017.json").write_text(json.dumps(content))
    file = tmp_path / "annotations" / "instances_train2017.json"
    status, _, err = run("data", "split", file, "--val", 0.3, "--seed", seed, "--out", tmp_path / "out")
    assert status == 0, err
    ids = {}
    for split in ("train", "val"):
        written = json.loads((tmp_path / "out" / "annotations" / f"instances_{split}.json").read_text())
        ids[split] = {image["id"] for image in written["images"]}
        assert {record["image_id"] for record in written["annotations"]} == ids[split]
    assert ids["train"] | ids["val"] == set(range(30))
    photographs = {split: {number // 3 for number in own} for split, own in ids.items()}
    assert photographs["train"] & photographs["val"] == set()
    assert len(photographs["val"]) == 3


def test_one_file_alone_cannot_be_split(refusal, write_coco, content, tmp_path):
    content["images"][1] = {**content["images"][0], "id": 5}
    file = write_coco("train2017") / "annotations" / "instances_train2017.json"
    assert "has 1 image, and two splits need" in refusal("data", "split", file, "--out", tmp_path / "out")


def test_images_get_a_second_name_and_what_a_link_leads_to_is_taken(run, refusal, write_coco, tmp_path):
    folder = write_coco("train2017") / "train2017"
    (folder / "b.png").rename(tmp_path / "elsewhere.png")
    (folder / "b.png").symlink_to(tmp_path / "elsewhere.png")
    words = ["data", "split", tmp_path / "annotations" / "instances_train2017.json", "--out", tmp_path / "out"]
    assert "--follow-links" in refusal(*words)
    assert run(*words, "--follow-links")[0] == 0
    (written,) = (tmp_path / "out").glob("*/b.png")
    assert not written.is_symlink()
    assert written.samefile(tmp_path / "elsewhere.png") or written.stat().st_dev != folder.stat().st_dev


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--val", "1.5"], "--val"),
        (["--val", "0"], "--val"),
        (["--images", "nowhere"], "nowhere"),
        (["--out", "annotations"], "--out"),
    ],
)
def test_what_cannot_be_split_is_refused_in_one_line(refusal, write_coco, monkeypatch, tmp_path, words, named):
    monkeypatch.chdir(write_coco("train2017"))
    before = sorted(tmp_path.rglob("*"))
    line = refusal("data", "split", "annotations/instances_train2017.json", "--out", "out", *words)
    assert named in line
    assert sorted(tmp_path.rglob("*")) == before


def test_the_photographs_of_coco_are_split_by_class(run, coco_mini, tmp_path):
    file = coco_mini / "annotations" / "instances_train2017.json"
    assert run("data", "split", file, "--val", 0.25, "--out", tmp_path / "out")[0] == 0
    found = {name: CocoDetection(tmp_path / "out", name) for name in ("train", "val")}
    assert len(found["train"]) + len(found["val"]) == 80
    assert {one.name for one in found["train"].categories} == {one.name for one in found["val"].categories}
