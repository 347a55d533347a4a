"""The experiments of the table: that they can be built, and the paper's numbers."""

from dataclasses import replace

import pytest
import torch
import yaml
from torch import nn

from botvision.classification import Classifier
from botvision.detection import MaskRCNN
from botvision.errors import UserError
from botvision.experiments import EXPERIMENTS, find_experiment
from botvision.training.config import from_plain, kind_of, to_plain
from botvision.training.schedule import sgd
from botvision.training.settings import check, total_steps

COCO_IMAGES = 118_287


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_builds_and_reads_back(name, tmp_path):
    experiment = find_experiment(name)
    check(experiment)
    assert from_plain(yaml.safe_load(yaml.safe_dump(to_plain(experiment))), tmp_path) == experiment
    with torch.device("meta"):
        build = Classifier if kind_of(experiment) == "classification" else MaskRCNN
        build(experiment.model, 80)


@pytest.mark.parametrize(("epochs", "steps"), [(12, 22_179), (24, 44_358), (36, 66_537), (72, 133_073)])
def test_the_papers_schedules_on_coco(epochs, steps):
    """Passes over 118 287 images in batches of 64, the last one of a run filled up (118 287 * 12 / 64 = 22 178.8)."""
    experiment = find_experiment("coco/botnet50")
    experiment = replace(experiment, run=replace(experiment.run, epochs=epochs))
    assert total_steps(experiment, COCO_IMAGES) == steps


def test_without_flags_coco_is_trained_for_the_1x_schedule():
    assert [total_steps(find_experiment(f"coco/{name}"), COCO_IMAGES) for name in ("botnet50", "resnet50")] == [
        22_179
    ] * 2


@pytest.mark.parametrize(
    ("name", "batch_size", "lr"),
    [
        ("coco/botnet50", 64, 0.08),
        ("coco/botnet50", 8, 0.01),  # a device with 8 images
        ("small/botnet50", 4, 0.08),
        ("demo/botnet50", 8, 0.04),
    ],
)
def test_the_learning_rate_of_an_experiment_at_a_batch_size(name, batch_size, lr):
    optimizer = sgd(nn.Linear(2, 2), find_experiment(name).optimizer, batch_size)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(lr)


@pytest.mark.parametrize("sort", ["coco", "small"])
def test_two_experiments_to_compare_differ_in_the_backbone_alone(sort):
    ours, theirs = find_experiment(f"{sort}/botnet50"), find_experiment(f"{sort}/resnet50")
    assert (ours.model.backbone, theirs.model.backbone) == ("botnet50", "resnet50")
    assert replace(theirs, model=replace(theirs.model, backbone="botnet50")) == ours


def test_an_unknown_experiment_is_answered_with_the_nearest():
    with pytest.raises(UserError, match="coco/botnet50"):
        find_experiment("coco/botnet5")
