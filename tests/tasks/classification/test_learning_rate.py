"""What a run says of its learning rate at the start is what its optimiser has."""

import logging
import re

import pytest

from botvision.tasks.classification.task import ClassificationTask


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("batch_size", [4, 8])
def test_a_run_says_the_learning_rate_of_its_optimizer(colour_experiment, caplog, tmp_path, optimizer, batch_size):
    experiment = colour_experiment.replace(
        optimizer=colour_experiment.optimizer.replace(optimizer=optimizer, lr=0.3),
        run=colour_experiment.run.replace(batch_size=batch_size, steps=20),
    )
    task = ClassificationTask(experiment)
    with caplog.at_level(logging.INFO, "botvision"):
        task.announce(tmp_path)
    (said,) = re.findall(r"learning rate: ([0-9.e-]+)", caplog.text)
    assert float(said) == pytest.approx(task.optimizer(task.make_model()).param_groups[0]["lr"], rel=1e-4)
    assert str(tmp_path) in caplog.text
