"""The model of a step on many processes, against sums done by hand and what must hold for any network."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botvision.benchmarks.scale import Network, Step, Work, check_two, scaled

STEP = Step(seconds=0.1, images=8, gradient_bytes=100_000_000, norms=0)


@pytest.mark.parametrize(
    ("processes", "network", "seconds"),
    [
        (1, Network(1e9, 1e9, 0, 8), 0.1),
        # Two in a ring send the gradients once: 0.1 s, of which 0.9 * 2/3 of the step's 0.1 s hide behind it.
        (2, Network(1e9, 1e9, 0, 8), 0.1 + 0.1 - 0.06),
        (2, Network(10e9, 1e9, 0, 8), 0.1),  # 0.01 s is hidden
        # Two machines of four: 1.5 times the gradients inside, once between them.
        (8, Network(10e9, 1e9, 0, 4), 0.1 + 0.015 + 0.1 - 0.06),
        (4, Network(1e12, 1e12, 1e-3, 1), 0.1),  # no norm waits
    ],
)
def test_steps_done_by_hand(processes, network, seconds):
    assert scaled(STEP, network, processes).step_seconds == pytest.approx(seconds)


def test_each_norm_waits_twice_for_every_doubling():
    step = Step(0.1, 8, 0, norms=50)
    found = scaled(step, Network(1e9, 1e9, 1e-4, 8), 16)
    assert found.step_seconds == pytest.approx(0.1 + 50 * 2 * 1e-4 * 4)
    assert found.machines == 2


@given(
    seconds=st.floats(1e-3, 10),
    size=st.integers(0, 10**9),
    inside=st.floats(1e8, 1e12),
    between=st.floats(1e8, 1e12),
    latency=st.floats(0, 1e-3),
    per_machine=st.sampled_from([1, 4, 8]),
)
def test_more_processes_are_never_more_efficient_and_never_compute_less(
    seconds, size, inside, between, latency, per_machine
):
    step, network = Step(seconds, 4, size, 53), Network(inside, between, latency, per_machine)
    rows = [scaled(step, network, 2**power) for power in range(8)]
    assert rows[0].efficiency == pytest.approx(1)
    assert rows[0].step_seconds == pytest.approx(seconds)
    for fewer, more in pairwise(rows):
        assert more.efficiency <= fewer.efficiency * (1 + 1e-9)
        assert more.step_seconds >= seconds


def test_the_command_prints_what_the_model_says(run):
    words = ["bench", "scale", "--model", "resnet50", "--size", "32", "--batch", "2", "--step-ms", "100"]
    status, out, _ = run(*words, "--repeats", "1", "--json", "--processes", "1", "8", "--device", "cpu")
    found = json.loads(out)
    assert status == 0
    assert [row["processes"] for row in found["scaled"]] == [1, 8]
    assert found["step"]["gradient_bytes"] == 4 * 25_557_032  # torchvision's count of ResNet-50
    assert found["scaled"][0]["images_per_second"] == pytest.approx(20)
    assert found["check"] is None


@pytest.mark.slow
def test_two_processes_are_measured_beside_the_model():
    found = check_two(Work("resnet50", 32, 2), repeats=1)
    assert min(found.one.seconds, found.bandwidth, found.predicted_seconds, found.measured_seconds) > 0
    assert found.predicted_seconds >= found.one.seconds
