"""What a detector is trained and evaluated on: refused where nothing can be learnt, and said in a few lines."""

import csv
import json
import logging
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rich.console import Console

from botvision.configuration import FieldError
from botvision.data import Category, CocoDetection
from botvision.errors import UserError
from botvision.tasks.detection.datasets import check_trainable, use_categories
from botvision.tasks.detection.evaluate import evaluate_detector
from botvision.tasks.detection.options import DetectionEvalOptions
from botvision.tasks.detection.task import DetectionTask
from botvision.tasks.detection.transforms import eval_transform
from botvision.training.trainer import start

NO_MASK = {"segmentation": []}


def square(x: int, **fields) -> dict:
    corners = [x, 20, x + 40, 20, x + 40, 60, x, 60]
    return {"image_id": 1, "category_id": 1, "bbox": [x, 20, 40, 40], "segmentation": [corners], **fields}


@pytest.fixture
def task_of(write_squares, tiny_experiment, tmp_path):
    """A task on a train and a val split with these annotations; None for a file without 'annotations'."""

    def make(train: list[dict] | None, val: list[dict] | None, **model) -> DetectionTask:
        write_squares(train, "train")
        write_squares(val, "val")
        return DetectionTask(
            tiny_experiment.replace(
                model=tiny_experiment.model.replace(**model),
                data=tiny_experiment.data.replace(data=tmp_path),
                run=tiny_experiment.run.replace(out=tmp_path / "run", steps=2, batch_size=2, eval_every=1),
            )
        )

    return make


@pytest.mark.parametrize(
    ("train", "named"),
    [
        (None, ["'annotations'"]),
        ([], ["1 images", "0 annotations"]),
        ([square(0, iscrowd=1), square(50, iscrowd=1)], ["2 crowd", "iscrowd", "CVAT", "2 annotations"]),
        ([square(0, iscrowd=1), square(50, bbox=[0, 0, 0, 1], **NO_MASK)], ["1 crowd", "1 box without area"]),
    ],
)
@pytest.mark.parametrize("detector", ["mask_rcnn", "faster_rcnn"])
def test_a_split_without_an_object_is_not_trained_on(task_of, train, named, detector):
    with pytest.raises(UserError) as caught:
        task_of(train, [square(0)], detector=detector)
    for part in ["instances_train.json", *named]:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("segmentation", [[], None, [[1, 1, 5, 5, 9, 9]]])
def test_boxes_without_masks_are_for_another_detector(task_of, segmentation):
    train = [square(0, segmentation=segmentation), square(50, segmentation=segmentation)]
    with pytest.raises(FieldError) as caught:
        task_of(train, train)
    assert caught.value.path[-1] == "detector"
    for part in (
        "instances_train.json",
        "box without mask",
        "faster_rcnn",
        "coco/faster_botnet50",
        "small/faster_botnet50",
        "2",
    ):
        assert part in str(caught.value)
    assert task_of(train, train, detector="faster_rcnn").train_set.objects == 2


def test_boxes_as_shares_of_the_image_are_no_objects(task_of):
    with pytest.raises(UserError, match=r"instances_train.json.*pixels"):
        task_of([square(0, bbox=[0.2, 0.2, 0.5, 0.3], **NO_MASK)], [square(0)], detector="faster_rcnn")


def test_validation_boxes_as_shares_of_the_image_are_warned_of(task_of, tmp_path, caplog):
    """In a training run, and in the evaluation of its checkpoint."""
    shares = square(0, bbox=[0.2, 0.2, 0.5, 0.3], **NO_MASK)
    outcome = start(task_of([square(0)], [shares], detector="faster_rcnn"), "tiny", Console(stderr=True))
    options = DetectionEvalOptions(workers=0, device="cpu")
    DetectionTask.evaluate_checkpoint(
        outcome.folder / "checkpoints" / "last.ckpt", str(tmp_path), options, lambda *_: None
    )
    warnings = [r.getMessage() for r in caplog.records if "not as shares of the image" in r.getMessage()]
    assert len(warnings) == 2
    assert all("instances_val.json" in warning for warning in warnings)


def test_some_masks_are_enough(task_of):
    assert task_of([square(0), square(50, **NO_MASK)], [square(0)]).train_set.objects_with_mask == 1


def test_a_run_says_what_it_trains_on_what_is_left_out_and_where_it_is(task_of, caplog, tmp_path):
    task = task_of([square(0), square(50, iscrowd=1), square(100, **NO_MASK)], [square(0)])
    with caplog.at_level(logging.INFO, "botvision"):
        start(task, "tiny", Console(stderr=True))
    first, second, _, third = (record.getMessage() for record in caplog.records)
    for part in ("1 images, 2 objects, 1 classes", "1 images, 1 objects, 1 classes", "instances_train.json"):
        assert part in first
    assert "1 crowd" in second
    assert "1 box without mask" in second
    assert str(tmp_path / "run") in third


@pytest.mark.parametrize(("val", "columns"), [([], ""), (None, ""), ([square(0, iscrowd=1)], "")])
def test_a_validation_split_without_an_object_is_warned_of_and_scores_nothing(task_of, caplog, tmp_path, val, columns):
    outcome = start(task_of([square(0)], val), "tiny", Console(stderr=True))
    assert any("instances_val.json" in r.getMessage() for r in caplog.records if r.levelno == logging.WARNING)
    with (outcome.folder / "evaluations.csv").open(newline="") as file:
        assert {row[name] for row in csv.DictReader(file) for name in row if name.startswith("val_")} == {columns}
    metrics = json.loads((outcome.folder / "eval" / "metrics.json").read_text())
    assert "-1" not in json.dumps(metrics)
    assert isinstance(json.loads((outcome.folder / "eval" / "detections.json").read_text()), list)
    if val is None:
        assert metrics == {"step": 2}
        assert DetectionTask.tables(outcome.scores) == []
    else:
        assert set(metrics["box"].values()) | set(metrics["mask"].values()) == {None}
    assert not (outcome.folder / "checkpoints" / "best.ckpt").exists()


def test_where_masks_cannot_be_scored_boxes_decide(task_of, caplog, tmp_path):
    outcome = start(task_of([square(0)], [square(0, **NO_MASK)]), "tiny", Console(stderr=True))
    assert any("mask" in r.getMessage() for r in caplog.records if r.levelno == logging.WARNING)
    assert outcome.scores["mask"]["ap"] is None
    assert outcome.scores["box"]["ap"] is not None
    assert (outcome.folder / "checkpoints" / "best.ckpt").is_file()


# --- categories ---


def test_a_missing_category_is_named_and_does_not_matter(write_squares, tmp_path, caplog):
    dataset = write_squares([square(0)], names=["thing"])
    use_categories(dataset, [Category(0, "first"), Category(1, "thing"), Category(5, "last")], tmp_path / "train.json")
    (record,) = caplog.records
    for part in (str(dataset.annotation_file), "'first' (id 0)", "'last' (id 5)", "train.json"):
        assert part in record.getMessage()
    assert dataset.instances(0)[0].label == 2
    assert [category.id for category in dataset.categories] == [0, 1, 5]


@pytest.mark.parametrize(
    "known",
    [
        [Category(2, "other"), Category(1, "Thing")],
        [Category(2, "thing"), Category(3, "thing")],  # of which it is not clear which one is meant
        [Category(1, "thing", ("nose",))],
        [],
    ],
)
def test_another_category_is_refused_by_name(write_squares, tmp_path, known):
    dataset = write_squares([square(0)])
    with pytest.raises(UserError) as caught:
        use_categories(dataset, known, tmp_path / "train.json")
    for part in (str(dataset.annotation_file), "'thing' (id 1)", "train.json", *(category.name for category in known)):
        assert part in str(caught.value)


def renumbered(shapes, folder, absent: str | None) -> CocoDetection:
    """The same photographs and classes as another tool numbers them, without one of the classes."""
    shutil.copytree(shapes, folder)
    file = folder / "annotations" / "instances_val2017.json"
    content = json.loads(file.read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    ids = {name: number for number, name in enumerate(reversed(names.values()), start=1) if name != absent}
    content["categories"] = [{"id": number, "name": name} for name, number in ids.items()]
    content["annotations"] = [
        one | {"category_id": ids[names[one["category_id"]]]}
        for one in content["annotations"]
        if names[one["category_id"]] != absent
    ]
    file.write_text(json.dumps(content))
    return CocoDetection(folder, "val", eval_transform(64))


def names_of(dataset: CocoDetection) -> dict:
    return {category.id: category.name for category in dataset.categories}


@pytest.mark.parametrize("absent", [None, "circle"])
def test_classes_of_other_ids_are_known_by_their_names(lively_model, shapes, tmp_path, caplog, absent):
    known = CocoDetection(shapes, "val", eval_transform(64))
    other = renumbered(shapes, tmp_path / "other", absent)
    use_categories(other, known.categories, tmp_path / "train.json")
    assert any("ids" in record.getMessage() for record in caplog.records)
    expected, found = (evaluate_detector(lively_model, dataset, batch_size=2) for dataset in (known, other))
    said = [
        [(one["image_id"], names[one["category_id"]], one["bbox"]) for one in evaluation.results]
        for evaluation, names in ((expected, names_of(known)), (found, names_of(other)))
    ]
    assert said[0] == said[1]
    assert len({name for _, name, _ in said[0]}) > 2
    for kind, classes in expected.scores["classes"].items():
        same = {name: None if name == absent else value for name, value in classes.items()}
        assert found.scores["classes"][kind] == same
    truth = COCO(other.annotation_file)  # its ids are those of the results
    judged = COCOeval(truth, truth.loadRes(list(found.results)), "bbox")
    for compute in (judged.evaluate, judged.accumulate, judged.summarize):
        compute()
    assert judged.stats[0] == pytest.approx(found.scores["box"]["ap"], abs=1e-6)
    assert judged.stats[8] == pytest.approx(found.scores["box"]["ar100"], abs=1e-6)


def test_long_lists_of_long_names_make_a_short_message(write_squares, tmp_path):
    dataset = write_squares([square(0)], names=["x" * 900 + str(n) for n in range(300)])
    with pytest.raises(UserError) as caught:
        use_categories(dataset, [], tmp_path / "train.json")
    assert len(str(caught.value)) < 1500


def test_training_and_evaluating_on_one_file_is_warned_of(write_squares, caplog):
    dataset = write_squares([square(0)])
    use_categories(dataset, dataset.categories, dataset.annotation_file)
    (record,) = caplog.records
    assert str(dataset.annotation_file) in record.getMessage()


def test_check_trainable_lets_a_good_split_pass(write_squares):
    check_trainable(write_squares([square(0)]))


# --- the command line ---


COMMANDS = """
from botvision.cli import main
for words in {}:
    try:
        main(words)
    except SystemExit as end:
        assert end.code == 0
"""


@pytest.mark.slow
def test_files_are_utf_8_whatever_the_locale_says(tmp_path, tiny_flags):
    """Names that ASCII does not have, in annotations of UTF-8, trained, evaluated and drawn in a C locale."""
    data, run = tmp_path / "data", tmp_path / "run"
    (data / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        (data / split).mkdir()
        name = f"Zoë-{split}.png"
        Image.fromarray(np.zeros((200, 200, 3), np.uint8)).save(data / split / name)
        content = {
            "images": [{"id": n, "file_name": name, "height": 200, "width": 200} for n in range(4)],
            "categories": [{"id": 1, "name": "Zähne 歯"}],
            "annotations": [{"id": n, **square(0), "image_id": n} for n in range(4)],
        }
        text = json.dumps(content, ensure_ascii=False)
        (data / "annotations" / f"instances_{split}.json").write_text(text, encoding="utf-8")
    flags = [data if flag == tiny_flags[1] else flag for flag in tiny_flags]
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    commands = [
        ["train", "small/botnet50", *flags, "--out", run],
        ["eval", run, "--data", data, "--classes", "--pictures", "1", "--workers", "0"],
    ]
    program = COMMANDS.format(ascii([list(map(str, words)) for words in commands]))
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    metrics = json.loads((run / "eval" / "val" / "metrics.json").read_text(encoding="utf-8"))
    assert list(metrics["classes"]["box"]) == ["Zähne 歯"]
