"""The benchmark of models: what is counted, what fits in memory, and what is said of what could not be measured."""

from dataclasses import replace
from itertools import accumulate

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from botvision.benchmarks import model_step
from botvision.benchmarks.apart import Ended
from botvision.benchmarks.model_step import (
    ModelSetting,
    bench_models,
    images,
    needed_by,
    power_of_two_below,
    prepare,
    run_of,
)
from botvision.benchmarks.needed_memory import needed_memory
from botvision.benchmarks.step_report import notes, read_times, write_times
from botvision.benchmarks.timed_models import MODELS, PEER, PEER_AS_IT_COMES, TimedModel, multiply_adds

CPU = torch.device("cpu")
SETTING = ModelSetting(batch=4, device=CPU)


def quiet(line):
    """Takes what a benchmark says."""


class Tiny(nn.Module):
    """Three channels to 1000 classes; takes no more images at once than ``most``."""

    def __init__(self, most: int = 100) -> None:
        super().__init__()
        self.most = most
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.fc = nn.Linear(8, 1000)

    def forward(self, x):
        if len(x) > self.most and not x.is_meta:
            raise torch.OutOfMemoryError("out of memory")
        return self.fc(self.conv(x).mean(dim=(2, 3)))


@pytest.fixture
def tiny(monkeypatch):
    """Adds models of that kind to the known ones, with a small product as the peak of the device.

    Another process would not know them, so memory is measured in this one.
    """
    monkeypatch.setattr(model_step, "PRODUCT", {"cpu": 128})
    monkeypatch.setattr(model_step, "answers_apart", lambda call, jobs: (call(job) for job in jobs))
    for name, most in {"tiny": 100, "hungry": 2, "starving": 0}.items():
        monkeypatch.setitem(MODELS, name, TimedModel(64, lambda size, most=most: Tiny(most)))


@pytest.mark.parametrize(
    ("name", "published"),
    [("efficientnet_b0", 0.39e9), ("efficientnet_b4", 4.2e9), ("deit_small_patch16_224", 4.6e9)],
)
def test_multiply_adds_of_peers_are_the_published_ones(name, published):
    assert multiply_adds(name, MODELS[name].size) == pytest.approx(published, rel=0.07)


def test_our_count_and_pytorchs_agree():
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        MODELS["resnet50"].on_meta(224)(torch.empty(1, 3, 224, 224, device="meta"))
    assert multiply_adds("resnet50", 224) == counter.get_total_flops() / 2
    assert multiply_adds(PEER, 256) == pytest.approx(multiply_adds("botnet50", 256), rel=0.01)


@pytest.mark.parametrize(
    ("name", "memory_format"), [(PEER, torch.channels_last), (PEER_AS_IT_COMES, torch.contiguous_format)]
)
def test_one_peer_is_timed_as_it_comes_too(name, memory_format):
    weight, x = prepare(name, 64, SETTING).model.conv1.weight, images(name, 64, 2, CPU)
    assert weight.is_contiguous(memory_format=memory_format)
    assert x.is_contiguous(memory_format=memory_format)


def allocated(call):
    """Bytes that PyTorch holds at most during a call, by its allocator's own record: no memory of the rest counts."""
    with torch.profiler.profile(profile_memory=True) as profile:
        call()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())))


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("name", ["botnet50", "efficientnet_b0"])
def test_needed_memory_is_about_what_a_step_takes(name, inference):
    setting = replace(SETTING, inference=inference)
    step = run_of(prepare(name, 160, setting).model, images(name, 160, 4, CPU), setting)
    step()  # gradients are there from now on, as in the steps that are measured
    assert needed_by(name, 160, 4, setting) == pytest.approx(allocated(step), rel=0.2)


def test_needed_memory_counts_what_lives_at_once():
    def call():
        kept = torch.empty(1000, dtype=torch.uint8, device="meta")
        for _ in range(3):
            torch.empty(500, dtype=torch.uint8, device="meta")  # one after the other
        return kept[2:]  # a view

    assert needed_memory(call) == 1500


def test_a_batch_that_does_not_fit_becomes_the_largest_power_of_two_that_does(tiny, monkeypatch):
    four, eight = (needed_by("tiny", 64, batch, SETTING) for batch in (4, 8))
    monkeypatch.setattr(model_step, "free_memory", lambda: (four + eight) / 2)
    report = bench_models([("tiny", 64)], replace(SETTING, batch=24), 1, quiet)
    assert report.rows[0].batch == 4
    assert report.rows[0].ms_per_image == report.rows[0].ms / 4
    assert any("tiny" in line and "smaller" in line for line in notes(report, 24))


def test_powers_of_two():
    assert [power_of_two_below(number) for number in (2, 3, 4, 5, 24, 32, 33)] == [1, 2, 2, 4, 16, 16, 32]


def test_what_does_not_fit_is_said_and_the_rest_goes_on(tiny, monkeypatch):
    free = needed_by("tiny", 64, 8, SETTING)
    monkeypatch.setattr(model_step, "free_memory", lambda: free)
    report = bench_models([("tiny", 256), ("tiny", 64)], SETTING, 1, quiet)
    large, small = report.rows
    assert (large.ms, large.peak_mib, large.of_peak) == (None, None, None)
    assert "memory" in large.note
    assert large.multiply_adds > 0
    assert small.ms > 0
    assert any("256" in line and "memory" in line for line in notes(report, 4))


def test_each_turn_is_kept_so_that_a_benchmark_that_is_stopped_loses_one(tiny, tmp_path):
    file, written = tmp_path / "step.json", []

    def keep(report):
        write_times(report, file)
        written.append(read_times([file]))

    report = bench_models([("tiny", 64)], SETTING, 3, quiet, keep)
    assert len(written) == 3
    assert written[-1] == report
    assert written[0].rows[0].least_ms == written[0].rows[0].ms  # of one turn


def test_a_device_that_is_out_of_memory_gets_smaller_batches(tiny, monkeypatch):
    monkeypatch.setattr(model_step, "free_memory", lambda: None)
    report = bench_models([("hungry", 64), ("starving", 64)], replace(SETTING, batch=32), 2, quiet)
    hungry, starving = report.rows
    assert hungry.batch == 2
    assert 0 < hungry.least_ms <= hungry.ms <= hungry.most_ms
    assert (starving.ms, starving.note) == (None, "out of memory")


@pytest.mark.parametrize(("status", "note"), [(-9, "out of memory"), (1, "its process ended with status 1")])
def test_a_process_that_ends_while_it_measures_memory_costs_one_row(tiny, monkeypatch, status, note):
    def answers(call, jobs):
        yield Ended(status)
        yield call(jobs[1])

    monkeypatch.setattr(model_step, "answers_apart", answers)
    lost, kept = bench_models([("tiny", 256), ("tiny", 64)], SETTING, 1, quiet).rows
    assert (lost.ms, lost.peak_mib, lost.note) == (None, None, note)
    assert kept.ms > 0


def test_the_process_with_the_times_keeps_memory_as_it_did(monkeypatch):
    def refuse():
        raise AssertionError("memory is measured in the process that measures times")

    monkeypatch.setattr(model_step, "PRODUCT", {"cpu": 128})
    monkeypatch.setattr(model_step, "freed_at_once", refuse)
    (row,) = bench_models([("resnet50", 64)], SETTING, 1, quiet).rows
    assert row.ms > 0
    weights = 4 * 25_557_032  # of torchvision's resnet50
    assert row.peak_mib is None or row.peak_mib * 2**20 > 2 * weights  # weights and gradients


def test_a_model_whose_package_is_missing_is_said(tiny, monkeypatch):
    monkeypatch.setitem(MODELS, "efficientnet_b0", replace(MODELS["efficientnet_b0"], package="not_there"))
    report = bench_models([("efficientnet_b0", 64), ("tiny", 64)], SETTING, 1, quiet)
    assert "not_there" in report.rows[0].note
    assert report.rows[0].multiply_adds is None
    assert report.rows[1].ms > 0
