"""The average of weights against its closed form."""

import pytest
import torch
from torch import nn

from botvision.training.ema import WeightAverage


@pytest.fixture
def model():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def set_to(model: nn.Module, value: float) -> None:
    for tensor in model.state_dict().values():
        tensor.fill_(value)


@pytest.mark.parametrize("decay", [0.9, 0.9999])
def test_weights_and_buffers_follow_the_closed_form(model, decay):
    """Of v_0 ... v_n the average is the sum of v_k (1 - d_k) d_(k+1) ... d_n, d_k = min(decay, (1 + k) / (10 + k))."""
    values = torch.randn(60, generator=torch.Generator().manual_seed(0), dtype=torch.float64).tolist()
    set_to(model, values[0])
    average = WeightAverage(model, decay)
    decays = [0.0] + [min(decay, (1 + step) / (10 + step)) for step in range(1, len(values))]
    expected = 0.0
    for step, value in enumerate(values):
        rest = torch.tensor(decays[step + 1 :], dtype=torch.float64).prod().item()
        expected += value * (1 - decays[step]) * rest
        if step:
            set_to(model, value)
            average.update(model, step)
    for name, tensor in average.model.state_dict().items():
        if tensor.is_floating_point():
            assert torch.allclose(tensor, torch.tensor(expected, dtype=torch.float32), atol=1e-6), name


def test_the_decay_reaches_its_full_value_and_stays_there():
    average = WeightAverage(nn.Linear(1, 1), 0.9999)
    assert average.decay_at(1) == 2 / 11
    assert average.decay_at(89_990) == pytest.approx(0.9999)
    assert [average.decay_at(step) for step in (89_991, 10**7)] == [0.9999, 0.9999]


def test_counts_are_copied_and_the_model_is_left_alone(model):
    average = WeightAverage(model, 0.9)
    model(torch.randn(2, 3, 8, 8))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    average.update(model, 1)
    assert average.model[1].num_batches_tracked == 1
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not average.model.training
    assert not any(parameter.requires_grad for parameter in average.model.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())
