"""The generated data set, read by pycocotools and by ourselves."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from botvision.data import CocoDetection, write_generated_coco
from botvision.data.shapes import SHAPES, draw_picture
from botvision.errors import UserError

SETTINGS = {"train_images": 24, "val_images": 6, "image_size": 64, "seed": 3}


def digest(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def generated(tmp_path_factory) -> Path:
    return write_generated_coco(tmp_path_factory.mktemp("parent") / "shapes", **SETTINGS)


@pytest.mark.parametrize(("split", "count"), [("train", 24), ("val", 6)])
def test_pycocotools_reads_the_same(generated, split, count):
    dataset = CocoDetection(generated, split)
    oracle = COCO(dataset.annotation_file)
    assert len(dataset) == len(oracle.imgs) == count
    assert dataset.dropped == {}
    assert [category.name for category in dataset.categories] == list(SHAPES)
    ids = [category.id for category in dataset.categories]
    assert ids == sorted(ids) != list(range(1, len(ids) + 1))  # gaps
    for record, (image, target) in zip(dataset.images, dataset, strict=True):
        assert max(image.shape) == 64
        annotations = oracle.loadAnns(oracle.getAnnIds(record.id))
        assert 1 <= len(annotations) <= 5
        for box, mask, annotation in zip(target["boxes"], target["masks"], annotations, strict=True):
            assert np.array_equal(mask.numpy(), oracle.annToMask(annotation))
            assert mask.sum() == annotation["area"]
            y, x = mask.nonzero(as_tuple=True)
            assert box.tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]


def test_every_form_of_a_mask_and_several_shapes_of_image_occur(generated):
    content = json.loads((generated / "annotations" / "instances_train2017.json").read_text())
    forms = Counter(
        type(a["segmentation"] if isinstance(a["segmentation"], list) else a["segmentation"]["counts"])
        if isinstance(a["segmentation"], dict)
        else "polygon"
        for a in content["annotations"]
    )
    assert set(forms) == {"polygon", list, str}
    assert min(forms.values()) >= 5
    assert len({(image["height"], image["width"]) for image in content["images"]}) >= 4
    assert {a["category_id"] for a in content["annotations"]} == {c["id"] for c in content["categories"]}


def test_no_instance_is_hidden_beyond_recognition_and_some_are_hidden_in_part():
    hidden = []
    for seed in range(40):
        _, shapes = draw_picture(np.random.default_rng(seed), 96)
        seen_before = np.zeros_like(shapes[0].visible)
        for shape in shapes:
            whole = shape.coverage > 0.5
            hidden.append(1 - shape.visible.sum() / whole.sum())
            assert not (shape.visible & seen_before).any()
            seen_before |= shape.visible
    assert max(hidden) <= 0.6
    assert np.mean(np.array(hidden) > 0.1) > 0.1


def test_masks_lie_on_what_is_painted():
    for seed in range(20):
        pixels, shapes = draw_picture(np.random.default_rng(seed), 128)
        for index, shape in enumerate(shapes):
            clear = shape.coverage == 1
            for later in shapes[index + 1 :]:
                clear &= later.coverage == 0
            assert shape.visible[clear].all()
            assert pixels[clear].astype(float).std(axis=0).mean() < 10  # one colour and its texture


def test_the_seed_decides_every_byte(generated, tmp_path):
    again = write_generated_coco(tmp_path / "again", **SETTINGS)
    assert digest(again) == digest(generated)
    other = write_generated_coco(tmp_path / "other", **(SETTINGS | {"seed": 4}))
    ours, theirs = digest(generated), digest(other)
    assert not any(ours[name] == theirs[name] for name in ours if name.endswith(".jpg"))


def test_train_and_val_differ(generated):
    images = [path.read_bytes() for path in generated.rglob("*.jpg")]
    assert len(set(images)) == 30


def test_a_finished_set_is_reused_as_it_is(tmp_path):
    folder = write_generated_coco(tmp_path / "set", **SETTINGS)
    image = next((folder / "val2017").iterdir())
    image.write_bytes(b"touched")
    assert write_generated_coco(folder, **SETTINGS) == folder
    assert image.read_bytes() == b"touched"


def test_a_half_written_set_is_never_seen(tmp_path, monkeypatch):
    saved = []
    save = Image.Image.save

    def fail_later(image, path, **options):
        saved.append(path)
        if len(saved) == 10:
            raise OSError("disk full")
        save(image, path, **options)

    monkeypatch.setattr(Image.Image, "save", fail_later)
    with pytest.raises(OSError, match="disk full"):
        write_generated_coco(tmp_path / "set", **SETTINGS)
    assert len(saved) == 10
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    (tmp_path / "set").mkdir()  # an empty folder is no obstacle
    assert len(CocoDetection(write_generated_coco(tmp_path / "set", **SETTINGS), "val")) == 6


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    folder = write_generated_coco(tmp_path / "set", **SETTINGS)
    before = digest(folder)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"mine")
    for target, changes in ((folder, {"seed": 4}), (tmp_path / "photos", {})):
        with pytest.raises(UserError) as caught:
            write_generated_coco(target, **(SETTINGS | changes))
        assert str(target) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert digest(folder) == before
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["a.jpg"]


@pytest.mark.parametrize(("name", "value"), [("train_images", 0), ("val_images", 0), ("image_size", 31), ("seed", -1)])
def test_a_setting_out_of_range_is_named(tmp_path, name, value):
    with pytest.raises(UserError, match=f"{name}: must be at least .*, not {value}"):
        write_generated_coco(tmp_path / "set", **(SETTINGS | {name: value}))
