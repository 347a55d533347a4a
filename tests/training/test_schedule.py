"""Learning rates against their closed forms, and which parameters decay."""

import math

import pytest
import torch
from torch import nn

from botvision.models import create_model
from botvision.training.schedule import adamw, cosine_schedule, parameter_groups, sgd, step_schedule

STEPS = 22_500
FIRST_TENTH, SECOND_TENTH = STEPS * 2 // 3, STEPS * 8 // 9
PAPER = {"warmup_steps": 500, "warmup_start": 0.0067 / 0.08, "decay_at": (2 / 3, 8 / 9)}


@pytest.mark.parametrize(
    ("step", "lr"),
    [
        (0, 0.0067),
        (1, 0.0067 + (0.08 - 0.0067) / 500),
        (250, (0.0067 + 0.08) / 2),
        (500, 0.08),
        (FIRST_TENTH - 1, 0.08),
        (FIRST_TENTH, 0.008),
        (SECOND_TENTH - 1, 0.008),
        (SECOND_TENTH, 0.0008),
        (STEPS, 0.0008),
    ],
)
def test_learning_rate_at_named_steps_of_the_papers_schedule(step, lr):
    assert 0.08 * step_schedule(step, STEPS, **PAPER) == pytest.approx(lr, rel=1e-9)


def test_without_warm_up_the_first_step_has_the_full_rate():
    assert step_schedule(0, STEPS, **{**PAPER, "warmup_steps": 0}) == 1


WARMUP, LONG = 1_564, 62_557  # 5 and 200 epochs of ImageNet in batches of 4096


@pytest.mark.parametrize(
    ("step", "factor"),
    [
        (0, 1 / WARMUP),
        (WARMUP // 2 - 1, 1 / 2),
        (WARMUP - 1, 1),
        (WARMUP, 1),
        (WARMUP + (LONG - WARMUP) / 4, math.cos(math.pi / 8) ** 2),
        (WARMUP + (LONG - WARMUP) / 2, 1 / 2),
        (LONG, 0),
    ],
)
def test_the_cosine_at_named_steps_of_an_imagenet_run(step, factor):
    assert cosine_schedule(step, LONG, warmup_steps=WARMUP) == pytest.approx(factor, abs=1e-12)


def test_a_cosine_without_warm_up_starts_at_its_full_rate_and_only_falls():
    factors = [cosine_schedule(step, 50, warmup_steps=0) for step in range(50)]
    assert factors[0] == 1
    assert factors == sorted(factors, reverse=True)
    assert 0 < factors[-1] < 0.001


@pytest.mark.parametrize(("batch_size", "lr"), [(64, 0.08), (8, 0.01), (256, 0.32)])
@pytest.mark.parametrize("nesterov", [False, True])
def test_the_rate_grows_linearly_with_the_batch(batch_size, lr, nesterov):
    settings = {"lr": 0.08, "reference_batch": 64, "momentum": 0.9, "weight_decay": 1e-4}
    optimizer = sgd(nn.Linear(2, 2), batch_size=batch_size, nesterov=nesterov, **settings)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([lr, lr])
    assert [(group["momentum"], group["nesterov"]) for group in optimizer.param_groups] == [(0.9, nesterov)] * 2


def test_adamw_takes_its_rate_as_it_is_and_decays_what_sgd_decays():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    optimizer = adamw(model, lr=1e-3, weight_decay=0.1)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()  # without a gradient, decay alone moves a parameter: by lr * weight_decay of itself
    shares = [1 - 1e-3 * 0.1, 1, 1, 1]
    for now, then, share in zip(model.parameters(), before, shares, strict=True):
        torch.testing.assert_close(now.detach(), share * then)


@pytest.mark.parametrize("attention", ["qk+qr_relative", "qk+qr_absolute"])
def test_only_weights_of_convolutions_and_linear_layers_decay(attention):
    model = create_model("botnet50", depths=(1, 1, 1, 1), width=8, attention=attention)
    layers = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    expected = {id(module.weight) for module in model.modules() if isinstance(module, layers)}
    decayed, free = parameter_groups(model, 1e-4)
    assert (decayed["weight_decay"], free["weight_decay"]) == (1e-4, 0)
    assert {id(parameter) for parameter in decayed["params"]} == expected
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert sum("rel_" in names[id(p)] or "abs_" in names[id(p)] for p in free["params"]) == 2
    each = [id(parameter) for parameter in [*decayed["params"], *free["params"]]]
    assert len(each) == len(set(each))
    assert set(each) == set(names)


def test_frozen_parameters_are_in_no_group():
    model = nn.Sequential(nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 2))
    grouped = {id(p) for group in parameter_groups(model, 1e-4) for p in group["params"]}
    assert grouped == {id(p) for p in model[1].parameters()}
