"""Two readings of the same data have the same digest, wherever they are, and other data another one."""

import json
import shutil

import pytest

from botvision.data import CocoDetection, open_classes, write_generated_coco


@pytest.fixture
def classes(tmp_path):
    for name in ("a/1", "a/2", "b/3", "b/4"):
        file = tmp_path / "classes" / "train" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return tmp_path / "classes"


def digest_of(folder):
    return open_classes(str(folder), "train").digest


def test_class_folders(classes, tmp_path):
    first, moved = digest_of(classes), shutil.copytree(classes, tmp_path / "elsewhere")
    assert first.startswith("4, ")
    assert digest_of(moved) == first
    found = {first}
    for change in (("a/2", "b/2"), ("b/3", "b/5"), ("b/4", None)):
        old, new = (name and moved / "train" / f"{name}.png" for name in change)
        old.rename(new) if new else old.unlink()
        found.add(digest_of(moved))
    assert len(found) == 4


def test_annotated_images(tmp_path):
    folder = write_generated_coco(tmp_path / "a", train_images=2, val_images=1, image_size=64, seed=0)
    first = CocoDetection(folder, "train").digest
    assert CocoDetection(shutil.copytree(folder, tmp_path / "b"), "train").digest == first
    assert CocoDetection(folder, "train", limit=1).digest != first
    (file,) = (tmp_path / "b" / "annotations").glob("*train*")
    content = json.loads(file.read_text())
    content["annotations"][0]["bbox"][0] += 1
    file.write_text(json.dumps(content))
    assert CocoDetection(tmp_path / "b", "train").digest != first
