"""The experiments of the table: that they can be built, and the paper's numbers."""

from functools import cache

import pytest
import torch
import yaml
from torch import nn

from botvision.errors import UserError
from botvision.experiments import EXPERIMENTS, find_experiment
from botvision.tasks.classification import Classifier
from botvision.tasks.detection.detectors import make_detector
from botvision.tasks.registry import TASKS
from botvision.training.schedule import sgd

COCO_IMAGES = 118_287
BUILD = {"classification": Classifier, "detection": make_detector}


@cache
def build(task, model):
    """Make the network of a configuration without memory; many rows of the paper have the same."""
    with torch.device("meta"):
        BUILD[task](model, 80)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_builds_and_reads_back_from_yaml(name):
    entry = find_experiment(name)
    config = entry.config
    assert TASKS[entry.task].config_type(**yaml.safe_load(yaml.safe_dump(config.plain()))) == config
    build(entry.task, config.model)


def test_field_names_are_unique_over_the_sections_so_that_they_can_be_flags():
    for task in TASKS.values():
        config = task.config_type()
        names = [name for section, _ in config for name in type(getattr(config, section)).model_fields]
        assert len(names) == len(set(names))


@pytest.mark.parametrize(("epochs", "steps"), [(12, 22_179), (24, 44_358), (36, 66_537), (72, 133_073)])
def test_the_papers_schedules_on_coco(epochs, steps):
    """Passes over 118 287 images in batches of 64, the last one of a run filled up (118 287 * 12 / 64 = 22 178.8)."""
    run = find_experiment("coco/botnet50").config.run
    assert run.replace(epochs=epochs).total_steps(COCO_IMAGES) == steps


@pytest.mark.parametrize("name", ["botnet50", "resnet50", "faster_botnet50", "keypoint_botnet50"])
def test_coco_is_trained_for_the_1x_schedule_by_default(name):
    assert find_experiment(f"coco/{name}").config.run.total_steps(COCO_IMAGES) == 22_179


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
    rate = find_experiment(name).config.optimizer.lr
    optimizer = sgd(nn.Linear(2, 2), lr=rate, batch_size=batch_size, reference_batch=64, momentum=0.9, weight_decay=0)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(lr)


@pytest.mark.parametrize("sort", ["coco", "small"])
@pytest.mark.parametrize(
    ("other", "field", "values"),
    [
        ("resnet50", "backbone", ("botnet50", "resnet50")),
        ("faster_botnet50", "detector", ("mask_rcnn", "faster_rcnn")),
        ("keypoint_botnet50", "detector", ("mask_rcnn", "keypoint_rcnn")),
    ],
)
def test_experiments_to_compare_differ_in_one_field(sort, other, field, values):
    ours, theirs = find_experiment(f"{sort}/botnet50").config, find_experiment(f"{sort}/{other}").config
    assert (getattr(ours.model, field), getattr(theirs.model, field)) == values
    assert theirs.replace(model=theirs.model.replace(**{field: values[0]})) == ours


def test_an_unknown_experiment_is_answered_with_the_nearest():
    with pytest.raises(UserError, match="coco/botnet50"):
        find_experiment("coco/botnet5")
