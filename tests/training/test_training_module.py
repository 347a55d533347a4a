"""What a training step refuses."""

import pytest
import torch
from torch import nn

from botvision.errors import UserError
from botvision.training.detection import DetectionTask
from botvision.training.module import TrainingModule


class Diverged(nn.Module):
    """A detector whose loss is no number."""

    def forward(self, *_):
        return {"class": torch.tensor(float("nan"))}


def test_a_loss_that_is_no_number_is_refused_and_promises_no_checkpoint(tiny_experiment):
    module = TrainingModule(DetectionTask(tiny_experiment), Diverged(), steps=4)
    batch = {"images": torch.zeros(1, 3, 8, 8), "targets": [{"content_size": (8, 8)}]}
    with pytest.raises(UserError, match=r"loss is nan at step 0$"):
        module.training_step(batch, 0)
