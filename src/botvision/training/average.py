"""An average of the weights over a run, by which a network is better than by those of any one step."""

import copy

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class WeightAverage:
    """A copy of a model whose weights and buffers are an exponential moving average of the model's.

    Args:
        model: copied, and left as it is.
        decay: share of itself that the average keeps at a step, once the run is past its first steps.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.decay = decay

    def decay_at(self, step: int) -> float:
        """The decay of a run's step (1 is the first): (1 + n) / (10 + n) until that reaches the full one.

        The rule is that of TensorFlow's ExponentialMovingAverage with ``num_updates``. Without it, an average of
        decay 0.9999 would still be half of its random start after 7000 steps.
        """
        return min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the model as it is after a step. What is no real number, such as a count, is copied."""
        averages, values = self.model.state_dict(), model.state_dict()
        real = [name for name, value in averages.items() if value.is_floating_point()]
        blend = get_ema_multi_avg_fn(self.decay_at(step))
        blend([averages[name] for name in real], [values[name] for name in real], step)
        for name in averages.keys() - set(real):
            averages[name].copy_(values[name])

    def state_dict(self) -> dict[str, Tensor]:
        """For a checkpoint, named as the model's own weights are in it."""
        return {f"model.{name}": value for name, value in self.model.state_dict().items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """From a checkpoint."""
        self.model.load_state_dict({name.removeprefix("model."): value for name, value in state.items()})
