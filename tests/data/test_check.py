"""`botvision data check`: all that is wrong with a data set at once, and the same verdict as training."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CASES = Path(__file__).parents[2].parent / "shared" / "cases"
REFUSED = {"iscrowd-all-1", "annotations-empty-train", "polygon-nested-points"}
"""Those that training with the default detector refuses, whatever detector is chosen."""
FOUND = {
    "iscrowd-all-1": "all are crowds, as CVAT exports masks",
    "annotations-empty-train": "no object to train on",
    "polygon-nested-points": "'segmentation' must hold polygons",
    "segmentation-empty": "box without mask",
    "segmentation-empty-for-half": "box without mask",
    "polygon-without-pixels": "mask without pixels",
    "category-names-twice": "categories of one name",
    "bbox-missing": "box from the mask",
    "val-lacks-a-category": "'disc'",
    "exif-180": "rotation mark",
    "split-without-annotations": "test without annotations",
}
"""What is said of them."""


@pytest.fixture
def check(run):
    """Checks a folder; gives the exit status and what is printed as JSON."""

    def checked(folder, *more) -> tuple[int, dict]:
        status, out, err = run("data", "check", folder, "--json", "--pictures", 0, *more)
        assert "Traceback" not in err
        return status, json.loads(out)

    return checked


def kinds(content: dict, effect: str) -> dict[str, int]:
    return {found["kind"]: found["count"] for found in content["findings"] if found["effect"] == effect}


@pytest.mark.parametrize("case", sorted(path.name for path in CASES.glob("*") if (path / "data").is_dir()) or ["none"])
def test_the_known_odd_inputs_come_out_as_they_should(check, case):
    if not CASES.is_dir():
        pytest.skip(f"needs the odd inputs at {CASES}")
    status, content = check(CASES / case / "data")
    assert (status == 2) == (case in REFUSED)
    assert FOUND.get(case, "") in json.dumps(content["findings"])


def test_sizes_of_objects_are_counted_by_the_areas_of_their_masks(check, write_coco, content):
    """A thin diagonal has a box of 90 x 90 pixels and a mask of fewer than 32 x 32."""
    content["images"] = [{"id": 7, "file_name": "a.png", "height": 200, "width": 200}]
    thin = {"bbox": [0, 0, 90, 90], "segmentation": [[0, 0, 3, 0, 90, 87, 90, 90, 87, 90, 0, 3]]}
    large = {"bbox": [0, 0, 150, 100], "segmentation": [[0, 0, 150, 0, 150, 100, 0, 100]]}
    content["annotations"] = [
        {"id": number, "image_id": 7, "category_id": category, **shape}
        for number, (category, shape) in enumerate([(3, thin), (3, large), (90, large)])
    ]
    folder = write_coco()
    Image.new("RGB", (200, 200)).save(folder / "train2017" / "a.png")
    _, found = check(folder)
    counts = {row["class"]: row["counts"]["train"] for row in found["classes"]}
    assert counts["car"] == {"all": 2, "small": 1, "medium": 0, "large": 1}
    assert counts["toothbrush"] == {"all": 1, "small": 0, "medium": 0, "large": 1}


def test_boxes_without_masks_are_noted_in_a_sentence_that_says_what_they_can_train(check, write_coco, content):
    for annotation in content["annotations"]:
        annotation.pop("segmentation", None)
    _, found = check(write_coco())
    (noted,) = [kind for kind in found["findings"] if kind["kind"] == "no object has a mask"]
    problem = noted["first"][0]["problem"]
    assert problem.startswith("the detector should be 'faster_rcnn'")
    assert "instances_train2017.json" in problem


def test_everything_wrong_is_listed_at_once_with_file_and_record(check, write_coco, content):
    wrong = [
        {"image_id": 7, "category_id": 3, "bbox": [1, 2, 3]},
        {"image_id": 99, "category_id": 3, "bbox": [1, 1, 2, 2]},
        {"image_id": 7, "category_id": 3, "bbox": [1, 1, 2, 2], "iscrowd": 5},
        {"image_id": 7, "category_id": 3, "bbox": [1, 1, 0, 2]},
        {"image_id": 7, "category_id": 3, "bbox": [15, 1, 50, 2]},
    ]
    content["annotations"] += [{"id": 10 + number, **record} for number, record in enumerate(wrong)]
    content["images"].append({"id": 8, "file_name": "../c.png", "height": 5, "width": 5})
    content["images"].append({"id": 9, "file_name": "missing.png", "height": 5, "width": 5})
    content["annotations"].append({"id": 20, "image_id": 8, "category_id": 3, "bbox": [1, 1, 2, 2]})
    folder = write_coco()
    (folder / "train2017" / "b.png").write_bytes(b"no image")
    shutil.copytree(folder / "train2017", folder / "val2017")
    (folder / "annotations" / "instances_val2017.json").write_text('{"images": [')
    status, found = check(folder)
    assert status == 2
    refused = kinds(found, "refused")
    for field in ("bbox", "image_id", "iscrowd"):
        assert refused[f"annotations, field '{field}'"] == 1
    assert refused["images, field 'file_name'"] == refused["image file is missing"] == 1
    assert refused["image cannot be read"] == refused["val cannot be read"] == 1
    assert kinds(found, "left out") == {"box without area": 1, "annotation of a refused image": 1}
    assert kinds(found, "changed")["box cut at the edge of its image"] == 1
    text = json.dumps(found)
    for named in ("instances_train2017.json", "annotations[2] (id 10)", "b.png", "missing.png", "line 1 column 13"):
        assert named in text
    assert found["splits"][0]["objects"] == 3  # those that are right, and the one that is cut


def test_what_training_refuses_the_check_refuses(run, check, shapes, tiny_flags, tmp_path):
    data = shutil.copytree(shapes, tmp_path / "data")
    file = data / "annotations" / "instances_train2017.json"
    content = json.loads(file.read_text())
    for record in content["annotations"]:
        record.pop("segmentation")
    file.write_text(json.dumps(content))
    words = ["train", "small/botnet50", *tiny_flags, "--data", data, "--out", tmp_path / "run"]
    assert run(*words)[0] == 2
    assert check(data, "--detector", "mask_rcnn")[0] == 2
    status, found = check(data)
    assert (status, found["trains"]) == (0, ["faster_rcnn", "detr"])
    assert check(shapes)[1]["trains"] == ["mask_rcnn", "faster_rcnn", "detr"]


def test_images_of_the_same_pixels_are_found_within_and_between_splits(check, write_coco, content):
    content["images"] = [
        {"id": number, "file_name": f"{number}.png", "height": 10, "width": 20} for number in (7, 8, 9)
    ]
    for split in ("train2017", "val2017"):
        folder = write_coco(split) / split
        for number in (7, 8, 9):
            noise = np.random.default_rng([number, len(split)]).integers(0, 256, (10, 20, 3), dtype=np.uint8)
            Image.fromarray(noise).save(folder / f"{number}.png")
    train, val = folder.parent / "train2017", folder
    shutil.copy(train / "7.png", train / "8.png")
    Image.open(train / "9.png").save(val / "7.png", compress_level=1)  # other bytes, the same pixels
    status, found = check(folder.parent)
    assert status == 0
    assert kinds(found, "noted") == {"image twice in a split": 1, "image in train and in val": 1}


def test_a_file_under_two_ids_is_found(check, write_coco, content):
    content["images"][1] = {**content["images"][0], "id": 5}
    status, found = check(write_coco(), "--splits", "train")
    assert status == 0
    (twice,) = [one for one in found["findings"] if one["kind"] == "image twice in a split"]
    assert (twice["count"], Path(twice["first"][0]["file"]).name) == (1, "a.png")
    assert "is the file of several images of train" in twice["first"][0]["problem"]


def test_names_that_differ_in_case_or_blanks_alone_are_noted(check, write_coco, content):
    names = ["Person ", "person", "traffic light", "trafficlight", "cat"]
    content["categories"] += [{"id": 100 + number, "name": name} for number, name in enumerate(names)]
    noted = check(write_coco(), "--splits", "train")[1]["findings"]
    first, second = next(one["first"] for one in noted if "differ" in one["kind"])
    assert "'Person '" in first["problem"] and "'person'" in first["problem"]
    assert "'traffic light'" in second["problem"]


def test_a_caption_has_the_width_first_as_image_viewers_do(run, write_coco, content, tmp_path, open_page):
    """20 wide and 10 high, with one object."""
    del content["annotations"][1]
    run("data", "check", write_coco(), "--splits", "train", "--out", tmp_path / "seen")
    assert "20 x 10 pixels, 1 object" in open_page(tmp_path / "seen" / "check.html").words
    assert "1 objects" not in open_page(tmp_path / "seen" / "check.html").words


def test_means_and_deviations_are_those_of_all_pixels(check, shapes):
    (found,) = check(shapes)[1]["pixels"]
    files = [*shapes.glob("train2017/*"), *shapes.glob("val2017/*")]
    images = [np.asarray(Image.open(file).convert("RGB")).reshape(-1, 3) for file in files]
    pixels = np.concatenate(images).astype(np.float64)
    np.testing.assert_allclose(found["mean"], pixels.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found["std"], pixels.std(axis=0), rtol=1e-5)
    assert found["pixels"] == len(pixels)


def test_a_data_set_of_classes_is_checked_as_a_whole(check, tmp_path):
    rng = np.random.default_rng(0)
    for split, name, count in (("train", "ant", 3), ("train", "cat", 2), ("val", "ant", 1), ("val", "dog", 1)):
        folder = tmp_path / split / name
        folder.mkdir(parents=True)
        for number in range(count):
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    for empty in ("train/bee", "train/cow"):
        (tmp_path / empty).mkdir()
    (tmp_path / "train" / "ant" / "broken.png").write_bytes(b"no image")
    (tmp_path / "train" / "ant" / "notes.txt").write_text("no image")
    status, found = check(tmp_path)
    assert status == 2
    assert kinds(found, "refused") == {"class folder": 2, "val has other classes": 1}
    assert kinds(found, "left out") == {"image cannot be read": 1}
    assert kinds(found, "noted")["class missing from val"] == 3
    counts = {row["class"]: row["counts"]["train"]["all"] for row in found["classes"] if "train" in row["counts"]}
    assert counts == {"ant": 4, "bee": 0, "cat": 2, "cow": 0}
    assert "1 .txt" in json.dumps(found["findings"])


def test_text_page_and_pictures_are_written(run, shapes, tmp_path, open_page):
    status, out, err = run("data", "check", shapes, "--out", tmp_path / "seen", "--pictures", 2)
    assert status == 0, err
    assert "training takes it" in out
    written = json.loads((tmp_path / "seen" / "check.json").read_text())
    assert written["splits"][0]["images"] == 8
    pictures = sorted((tmp_path / "seen" / "pictures").iterdir())
    assert len(pictures) == 4
    for picture in pictures:
        assert len(np.unique(np.asarray(Image.open(picture)).reshape(-1, 3), axis=0)) > 4
    page = open_page(tmp_path / "seen" / "check.html")
    assert (page.console, page.requests) == ([], [])
    assert page.html.count("<img") == 4
    for row in written["classes"]:
        assert row["class"] in page.words


@pytest.mark.parametrize("words", [["nowhere"], ["."]])
def test_a_folder_without_data_is_refused_in_one_line(refusal, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    assert words[0] in refusal("data", "check", *words)
    assert list(tmp_path.iterdir()) == []


def test_shards_are_checked_as_classes(run, check, animals, tmp_path):
    assert run("shards", animals, "--out", tmp_path / "shards")[0] == 0
    status, found = check(tmp_path / "shards")
    assert (status, found["task"]) == (0, "classification")
    assert {row["class"]: row["counts"]["train"]["all"] for row in found["classes"]} == {"ant": 3, "cat": 5}


def test_every_count_is_shown_on_a_terminal_80_wide(run, shapes, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    found = json.loads(run("data", "check", shapes, "--json")[1])["classes"]
    lines = run("data", "check", shapes)[1].splitlines()
    for row in found:
        counts = [str(count) for sizes in row["counts"].values() for count in sizes.values()]
        assert any(line.split()[1:] == counts for line in lines if line.startswith(f" {row['class'][:4]}"))
