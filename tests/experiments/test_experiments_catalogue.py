"""Every experiment of the table can be built."""

import math

import pytest
import torch
import yaml

from botvision.detection import MaskRCNN
from botvision.errors import UserError
from botvision.experiments import EXPERIMENTS, find_experiment
from botvision.training.config import DetectionExperiment, from_plain, to_plain
from botvision.training.run import check, total_steps
from botvision.training.schedule import sgd

COCO_IMAGES = 118_287
DETECTION = [name for name, (_, experiment) in EXPERIMENTS.items() if isinstance(experiment, DetectionExperiment)]


@pytest.mark.parametrize("name", DETECTION)
def test_an_experiment_builds(name, tmp_path):
    experiment = find_experiment(name)
    check(experiment)
    assert from_plain(yaml.safe_load(yaml.safe_dump(to_plain(experiment))), tmp_path) == experiment
    run = experiment.run
    expected = run.steps or math.ceil(run.epochs * COCO_IMAGES / run.batch_size)
    assert total_steps(experiment, COCO_IMAGES) == expected
    with torch.device("meta"):
        model = MaskRCNN(experiment.model, 80)
    assert sgd(model, experiment.optimizer, run.batch_size).param_groups[0]["lr"] > 0


def test_the_papers_schedule_on_coco_is_22_179_steps():
    """12 epochs of 118 287 images in batches of 64; that code rounds to 22 500."""
    assert total_steps(find_experiment("coco/botnet50"), COCO_IMAGES) == 22_179


def test_an_unknown_experiment_is_answered_with_the_nearest():
    with pytest.raises(UserError, match="coco/botnet50"):
        find_experiment("coco/botnet5")
