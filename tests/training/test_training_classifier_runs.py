"""Runs of classifiers: what they leave behind, and that an interrupted one ends as one that never was, bit for bit."""

import csv
import json
import re
import shutil
from collections import Counter
from dataclasses import replace

import pytest
import pytorch_lightning as pl
import torch
from rich.console import Console

from botvision.checkpoint import checkpoint_kind, read_checkpoint
from botvision.classification.checkpoint import load_classifier
from botvision.data import eval_crop, open_classes
from botvision.errors import UserError
from botvision.evaluation import evaluate_classifier
from botvision.training.classification import ClassificationTask
from botvision.training.detection import DetectionTask
from botvision.training.run import initial_weights, resume_run, start_run
from botvision.training.run_folder import read_run

CONSOLE = Console(stderr=True)
STEPS = 6  # two epochs of 24 images, 8 at a step

EVERYTHING = {
    "model": {"dropout": 0.25, "stochastic_depth": 0.2},
    "data": {"randaugment": (2, 10), "mixup": 0.2, "cutmix": 1.0},
    "optimizer": {"label_smoothing": 0.1, "ema_decay": 0.5},
    "run": {"images_per_device": 4},
}
"""All that draws at random or remembers something, gradients that accumulate included."""


def changed(experiment, **sections):
    return replace(experiment, **{name: replace(getattr(experiment, name), **of) for name, of in sections.items()})


@pytest.fixture
def seen(monkeypatch):
    """Paths of the images that were trained on, in order."""
    paths: list[str] = []
    losses = ClassificationTask.losses

    def noted(self, model, batch):
        paths.extend(target["path"] for target in batch["targets"])
        return losses(self, model, batch)

    monkeypatch.setattr(ClassificationTask, "losses", noted)
    return paths


def rows_of(folder) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(colour_experiment, tmp_path_factory):
    """The folder of a finished run with everything on; tests must not change it."""
    run = {**EVERYTHING["run"], "steps": STEPS, "eval_every": 3, "out": tmp_path_factory.mktemp("finished") / "run"}
    return start_run(changed(colour_experiment, **EVERYTHING | {"run": run}), "imagenet/botnet50", CONSOLE).folder


@pytest.mark.parametrize("workers", [0, 1])
def test_stopped_in_the_middle_of_an_epoch_and_resumed(
    colour_experiment, finished, interrupt_at, seen, tmp_path, workers
):
    out = tmp_path / "run"
    sections = {name: {**fields} for name, fields in EVERYTHING.items()}
    sections["run"] |= {"steps": STEPS, "eval_every": 3, "out": out}
    sections["data"]["workers"] = workers
    interrupt_at(3)  # in the first half of the second step, whose gradients accumulate over two batches
    outcome = start_run(changed(colour_experiment, **sections), "imagenet/botnet50", CONSOLE)
    assert (outcome.stopped, outcome.steps, len(seen)) == (True, 2, 16)
    torch.manual_seed(12345)
    outcome = resume_run(out, CONSOLE)
    assert (outcome.stopped, outcome.steps) == (False, STEPS)

    assert [Counter(seen[epoch : epoch + 24]) for epoch in (0, 24)] == [Counter(set(seen))] * 2
    assert len(set(seen)) == 24
    own, other = (read_checkpoint(folder / "checkpoints" / "last.ckpt") for folder in (out, finished))
    for part in ("state_dict", "ema_state_dict"):
        assert own[part].keys() == other[part].keys()
        assert all(torch.equal(own[part][name], value) for name, value in other[part].items())
    momenta, others = (c["optimizer_states"][0]["state"] for c in (own, other))
    assert all(torch.equal(momenta[i]["momentum_buffer"], others[i]["momentum_buffer"]) for i in others)
    columns = ("step", "epoch", "lr", "loss", "top1", "val_top1", "val_top5", "val_loss")
    assert [[row[name] for name in columns] for row in rows_of(out)] == [
        [row[name] for name in columns] for row in rows_of(finished)
    ]


def test_metrics_have_every_step_and_every_evaluation(finished):
    rows = rows_of(finished)
    steps, evaluations = ([row for row in rows if row[name]] for name in ("loss", "val_top1"))
    assert [row["step"] for row in steps] == ["1", "2", "3", "4", "5", "6"]
    assert [row["step"] for row in evaluations] == ["3", "6"]
    assert all(0 <= float(row["data_wait"]) <= 1 for row in steps)
    assert all(float(row["loss"]) > 0 and 0 <= float(row["top1"]) <= 1 for row in steps)
    # 0.1 for a batch of 256, so 8 / 256 of it; the warm-up of half an epoch is 2 steps
    assert [float(row["lr"]) for row in steps[:3]] == pytest.approx([0.1 / 64, 0.1 / 32, 0.1 / 32])


def test_a_run_says_what_it_is(finished, colours):
    name, experiment = read_run(finished)
    assert name == "imagenet/botnet50"
    assert experiment.data.data == str(colours)
    assert experiment.data.randaugment == (2, 10)
    assert checkpoint_kind(finished) == "classification"
    content = read_checkpoint(finished / "checkpoints" / "best.ckpt")
    assert content["botvision"]["classes"] == content["botvision"]["class_names"] == ["blue", "green", "red"]
    assert content["state_dict"].keys() == content["ema_state_dict"].keys()


def test_the_scores_are_those_of_the_average_in_the_checkpoint(finished, colours):
    images = open_classes(colours, "val", eval_crop(64))
    written = json.loads((finished / "eval" / "metrics.json").read_text())
    losses = {}
    for ema in (True, False):
        model = load_classifier(finished / "checkpoints" / "last.ckpt", ema=ema).model
        losses[ema], _ = evaluate_classifier(model, images, batch_size=4)
    assert written["step"] == STEPS
    for name in ("top1", "top5", "loss", "ece", "images"):
        assert written[name] == pytest.approx(losses[True][name], rel=1e-6), name
    assert written["loss"] != pytest.approx(losses[False]["loss"], rel=1e-3)
    assert {file.name for file in (finished / "eval").iterdir()} >= {"metrics.json", "predictions.csv"}


def test_a_run_of_relative_data_resumes_from_any_folder(colour_experiment, colours, tmp_path, monkeypatch):
    monkeypatch.chdir(colours.parent)
    experiment = changed(colour_experiment, data={"data": colours.name}, run={"out": tmp_path / "run", "steps": 3})
    start_run(experiment, "imagenet/botnet50", CONSOLE)
    assert read_run(tmp_path / "run")[1].data.data == str(colours)


def test_data_at_an_address_is_left_as_it_is(colour_experiment, tmp_path):
    address = "http://127.0.0.1:9/shards"  # nothing listens there
    with pytest.raises((UserError, OSError), match=re.escape(address)):
        start_run(changed(colour_experiment, data={"data": address}, run={"out": tmp_path / "r"}), "x", CONSOLE)
    assert list(tmp_path.iterdir()) == []


def test_a_run_starts_from_another_ones_average_with_other_classes(colour_experiment, colours, finished, tmp_path):
    two = shutil.copytree(colours, tmp_path / "two")
    for split in ("train", "val"):
        shutil.rmtree(two / split / "red")
    run = {"out": tmp_path / "run", "steps": 1, "weights": finished / "checkpoints" / "last.ckpt"}
    sections = {"model": {"freeze": "c5"}, "data": {"data": str(two)}, "optimizer": {"warmup_epochs": 0}}
    folder = start_run(changed(colour_experiment, **sections, run=run), "imagenet/botnet50", CONSOLE).folder
    before, after = load_classifier(finished / "checkpoints" / "last.ckpt"), load_classifier(folder)
    assert after.classes == ["blue", "green"]
    for name, value in before.model.network.state_dict().items():
        if not name.startswith("fc."):
            assert torch.equal(after.model.network.state_dict()[name], value), name


@pytest.mark.parametrize(
    ("lacks", "works"), [("layer4.0.conv3.weight", "c4"), ("layer2.0.bn1.running_mean", "c2"), ("conv1.", "none")]
)
def test_what_the_weights_do_not_hold_is_not_frozen(colour_experiment, finished, tmp_path, lacks, works):
    state = {name: value for name, value in initial_weights(finished).items() if not name.startswith(lacks)}
    state = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "weights.pth")
    run = {"out": tmp_path / "run", "steps": 1, "weights": tmp_path / "weights.pth"}
    experiment = changed(colour_experiment, model={"freeze": "c5"}, optimizer={"warmup_epochs": 0}, run=run)
    with pytest.raises(UserError, match=f"keep {lacks}.* at random.*--freeze {works}$"):
        start_run(experiment, "x", CONSOLE)
    assert not (tmp_path / "run").exists()
    assert start_run(changed(experiment, model={"freeze": works}), "x", CONSOLE).steps == 1


def test_a_detector_freezes_its_stem_only_where_that_was_loaded(tiny_experiment, finished, tmp_path):
    experiment = changed(tiny_experiment, model={"freeze_stem": True})
    with pytest.raises(UserError, match="--freeze-stem needs --weights"):
        DetectionTask(experiment)
    task = DetectionTask(changed(experiment, run={"weights": finished}))
    state = initial_weights(finished)
    task.start_from(task.make_model(), state)
    del state["layer1.0.conv1.weight"]
    for prefix in ("", "backbone.body."):
        given = {prefix + name: value for name, value in state.items() if not name.startswith("fc.")}
        with pytest.raises(UserError, match=rf"--freeze-stem would keep {prefix}layer1\.0\.conv1\.weight at random"):
            task.start_from(task.make_model(), given)


def test_weights_of_a_detector_and_a_file_without_any_are_named(colour_experiment, finished_run, tmp_path):
    for weights, says in ((finished_run, "is a detector's"), (finished_run / "config.yaml", "it holds no tensors")):
        run = {"out": tmp_path / "run", "weights": weights}
        with pytest.raises(UserError, match=f"{weights} .*{says}"):
            start_run(changed(colour_experiment, run=run), "x", CONSOLE)
    with pytest.raises(UserError, match=r"config\.yaml is no readable checkpoint: it holds no tensors"):
        read_checkpoint(finished_run / "config.yaml")


def test_a_detector_starts_from_the_run_of_a_classifier(tiny_experiment, finished):
    """As the paper trains its detectors: from ImageNet; here without anything between."""
    task = DetectionTask(tiny_experiment)
    model = task.make_model()
    report = task.start_from(model, initial_weights(finished))
    assert report.unused == ["fc.weight", "fc.bias"]
    assert report.at_random == []
    classifier = load_classifier(finished).model.network.state_dict()
    assert all(torch.equal(value, classifier[name]) for name, value in model.backbone.body.state_dict().items())


def test_a_checkpoint_without_the_average_that_the_run_keeps(colour_experiment, tmp_path):
    run = {"out": tmp_path / "run", "steps": 3}
    folder = start_run(changed(colour_experiment, run=run), "imagenet/botnet50", CONSOLE).folder
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("ema_decay: null", "ema_decay: 0.9").replace("steps: 3", "steps: 4"))
    with pytest.raises(UserError, match="no average of weights"):
        resume_run(folder, CONSOLE)


@pytest.mark.parametrize("error", [UserError("an image is cut off"), KeyboardInterrupt()])
def test_a_run_whose_last_evaluation_failed_is_finished_by_a_resume(
    colour_experiment, finished, tmp_path, monkeypatch, error
):
    out = tmp_path / "run"
    sections = EVERYTHING | {"run": {**EVERYTHING["run"], "steps": STEPS, "eval_every": STEPS, "out": out}}

    def fail(*_, **__):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(ClassificationTask, "evaluate", fail)
        with pytest.raises(type(error)):
            start_run(changed(colour_experiment, **sections), "imagenet/botnet50", CONSOLE)
    assert not (out / "checkpoints" / "best.ckpt").exists()
    outcome = resume_run(out, CONSOLE)
    assert (outcome.steps, outcome.stopped) == (STEPS, False)
    for name in ("metrics.json", "predictions.csv"):
        assert (out / "eval" / name).read_text() == (finished / "eval" / name).read_text()
    assert json.loads((out / "eval" / "metrics.json").read_text()).items() >= outcome.scores.items()
    assert rows_of(out)[-1] == rows_of(finished)[-1]
    assert sorted(file.name for file in (out / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    assert read_checkpoint(out / "checkpoints" / "best.ckpt")["global_step"] == STEPS
    assert resume_run(out, CONSOLE).scores == outcome.scores


def test_the_lock_of_a_killed_process_locks_nothing(colour_experiment, finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "run")
    (folder / ".lock").touch()
    assert resume_run(folder, CONSOLE).steps == STEPS


@pytest.fixture
def damaged(colours, tmp_path):
    """A copy of the images in which so many cannot be read."""

    def damage(number: int):
        copy = shutil.copytree(colours, tmp_path / "data")
        for file in sorted((copy / "train" / "green").iterdir())[:number]:
            file.write_bytes(b"no image")
        return str(copy)

    return damage


def test_one_unreadable_image_is_named_and_left_out(colour_experiment, damaged, seen, tmp_path, caplog):
    experiment = changed(colour_experiment, data={"data": damaged(1)}, run={"out": tmp_path / "run", "steps": STEPS})
    assert start_run(experiment, "imagenet/botnet50", CONSOLE).steps == STEPS
    assert len(seen) == 2 * 23
    named = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert len(named) == 1
    assert "green/0.png" in named[0]
    callbacks = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["callbacks"]
    assert callbacks["SkippedImages"]["seen"] == 24
    assert len(callbacks["SkippedImages"]["bad"]) == 1


def test_more_unreadable_images_stop_the_run_with_their_names(colour_experiment, damaged, tmp_path):
    experiment = changed(colour_experiment, data={"data": damaged(2)}, run={"out": tmp_path / "run"})
    with pytest.raises(UserError, match="more than 1 %") as caught:
        start_run(experiment, "imagenet/botnet50", CONSOLE)
    assert "\n" not in str(caught.value)
    assert all(f"green/{number}.png" in str(caught.value) for number in (0, 1))


def test_a_batch_without_any_readable_image_is_passed_over(colour_experiment, damaged, tmp_path):
    data = {"data": damaged(1), "workers": 0}
    run = {"out": tmp_path / "run", "batch_size": 1, "steps": 24, "eval_every": 24}
    experiment = changed(colour_experiment, model={"input_size": 96}, data=data, run=run)
    assert start_run(experiment, "imagenet/botnet50", CONSOLE).steps == 24
    assert [row["loss"] for row in rows_of(tmp_path / "run") if row["loss"]].count("0.0") == 1


def test_a_batch_of_one_image_teaches_where_the_last_map_has_one_position(colour_experiment, damaged, seen, tmp_path):
    run = {"out": tmp_path / "run", "batch_size": 2, "steps": 12, "eval_every": 12}
    sections = {"model": {"input_size": 32}, "data": {"data": damaged(1)}, "run": run}
    assert start_run(changed(colour_experiment, **sections), "imagenet/botnet50", CONSOLE).steps == 12
    assert len(seen) == 23  # one of the twelve batches had one image
    assert all(float(row["loss"]) > 0 for row in rows_of(tmp_path / "run") if row["loss"])


def test_one_image_alone_has_the_loss_of_the_same_image_twice(colour_experiment):
    task = ClassificationTask(colour_experiment)
    model = task.make_model().train()
    image = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    one, two = (
        task.losses(model, {"images": image.repeat(count, 1, 1, 1), "targets": [{"label": 1}] * count, "skipped": []})
        for count in (1, 2)
    )
    assert one["loss"].item() == pytest.approx(two["loss"].item(), rel=1e-6)


def test_one_class_alone_is_refused(colour_experiment, colours, tmp_path):
    copy = shutil.copytree(colours, tmp_path / "data")
    for split in ("train", "val"):
        (copy / split / "all").mkdir()
        for name in ("blue", "green", "red"):
            (copy / split / name).rename(copy / split / "all" / name)
    with pytest.raises(UserError, match="one class alone, 'all'"):
        start_run(changed(colour_experiment, data={"data": str(copy)}, run={"out": tmp_path / "r"}), "x", CONSOLE)


def test_other_classes_in_the_two_splits(colour_experiment, colours, tmp_path):
    copy = shutil.copytree(colours, tmp_path / "data")
    (copy / "val" / "red").rename(copy / "val" / "rouge")
    with pytest.raises(UserError, match="rouge"):
        start_run(changed(colour_experiment, data={"data": str(copy)}), "imagenet/botnet50", CONSOLE)


def test_the_average_takes_in_a_step_once_however_many_batches_it_has(colour_experiment, tmp_path):
    run = {"out": tmp_path / "run", "steps": 1, "images_per_device": 2}
    optimizer = {"ema_decay": 0.9, "warmup_epochs": 0}
    experiment = changed(colour_experiment, run=run, optimizer=optimizer)
    folder = start_run(experiment, "imagenet/botnet50", CONSOLE).folder
    pl.seed_everything(experiment.run.seed, verbose=False)
    start = ClassificationTask(experiment).make_model().state_dict()
    content = read_checkpoint(folder / "checkpoints" / "last.ckpt")
    for name, average in content["ema_state_dict"].items():
        if average.is_floating_point():
            first, last = start[name.removeprefix("model.")], content["state_dict"][name]
            assert torch.allclose(average, 2 / 11 * first + 9 / 11 * last, atol=1e-6), name
