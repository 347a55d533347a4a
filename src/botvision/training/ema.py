"""Exponential moving average (EMA) of the weights of a run."""

import copy

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from botvision.training.sharding import local


class WeightAverage:
    """A copy of a model whose weights and buffers are an exponential moving average of the model's.

    ``decay`` is the share of itself that the average keeps at a step, after the first steps of a run.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.decay = decay

    def decay_at(self, step: int) -> float:
        """The decay at a step (1 is the first): (1 + n) / (10 + n) until that reaches the full one.

        This is the rule of TensorFlow's ExponentialMovingAverage with ``num_updates``. Without it, half of an average
        of decay 0.9999 would still come from its random start after 7000 steps.
        """
        return min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the model as it is after a step. Integers, such as a count of batches, are copied."""
        averages, values = (
            {name: local(value) for name, value in one.state_dict().items()} for one in (self.model, model)
        )
        real = [name for name, value in averages.items() if value.is_floating_point()]
        blend = get_ema_multi_avg_fn(self.decay_at(step))
        blend([averages[name] for name in real], [values[name] for name in real], step)
        for name in averages.keys() - set(real):
            averages[name].copy_(values[name])
