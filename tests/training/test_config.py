"""Lengths and intervals that follow from the settings of a run."""

import pytest

from botvision.configuration import FieldError
from botvision.training.config import RunConfig


@pytest.mark.parametrize(
    ("settings", "images", "steps"),
    [
        ({"steps": 7, "epochs": 3, "batch_size": 8}, 100, 7),
        ({"epochs": 2, "batch_size": 8}, 100, 25),
        ({"epochs": 1, "batch_size": 64}, 100, 2),
        ({"epochs": 0.001, "batch_size": 64}, 100, 1),
    ],
)
def test_steps_are_given_or_follow_from_epochs(settings, images, steps):
    assert RunConfig(**settings).total_steps(images) == steps


@pytest.mark.parametrize(
    ("settings", "images", "interval"),
    [
        ({"eval_every": 7, "epochs": 3, "batch_size": 8}, 100, 7),
        ({"epochs": 3, "batch_size": 8}, 100, 13),  # an epoch
        ({"epochs": 400, "batch_size": 8}, 100, 250),  # 20 evaluations of 5000 steps
    ],
)
def test_evaluations_are_once_an_epoch_but_at_most_twenty(settings, images, interval):
    assert RunConfig(**settings).evaluation_interval(images) == interval


def test_a_batch_is_divided_over_devices_and_steps_of_gradients():
    assert RunConfig(batch_size=64).images_at_once(4) == 16
    assert RunConfig(batch_size=64, images_per_device=4).images_at_once(4) == 4
    for settings, devices in (({}, 3), ({"images_per_device": 24}, 1), ({"images_per_device": 16}, 8)):
        with pytest.raises(FieldError, match=r"batch_size: .* 64") as caught:
            RunConfig(batch_size=64, **settings).images_at_once(devices)
        assert caught.value.path == ("batch_size",)


@pytest.mark.parametrize(("devices", "batch", "at_once"), [(8, 4, None), (6, 64, None), (8, 64, 16), (1, 5, None)])
def test_a_run_takes_the_most_devices_that_share_a_batch(devices, batch, at_once):
    run = RunConfig(batch_size=batch, images_per_device=at_once)

    def shares(count):
        try:
            return run.images_at_once(count) > 0
        except FieldError:
            return False

    assert run.usable_devices(devices) == max(filter(shares, range(1, devices + 1)))


@pytest.mark.parametrize(
    "wrong", [{"seed": 2**32}, {"seed": -1}, {"epochs": 0}, {"batch_size": 0}, {"device": "tpu"}, {"clip_norm": -1.0}]
)
def test_what_cannot_run_names_its_field(wrong):
    with pytest.raises(FieldError) as caught:
        RunConfig(**wrong)
    assert caught.value.path == tuple(wrong)
