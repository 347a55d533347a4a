"""Figure 5 and the slopes: which models are on the front, and what a straight line says."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botvision.benchmarks.growth import Growth, slope
from botvision.benchmarks.model_step import Conditions, ModelTime, StepReport
from botvision.benchmarks.pareto import Accuracy, Point, missing, points
from botvision.benchmarks.step_report import PublishedRatio
from botvision.benchmarks.timed_models import MODELS
from botvision.experiments.speed import accuracies

CONDITIONS = Conditions(device="d", threads=1, dtype="float32", inference=False, compiled=False, versions={})
NAMES = ["botnet_t3", "botnet_t4", "botnet_t5", "efficientnet_b0", "efficientnet_b1", "deit_base_patch16_384"]


def timed(model: str, ms: float | None, size: int | None = None, batch: int = 2) -> ModelTime:
    numbers = dict.fromkeys(("least_ms", "most_ms", "peak_mib", "multiply_adds", "of_peak"))
    return ModelTime(
        model=model, size=size or MODELS[model].size, batch=batch, ms=ms, note="" if ms else "why", **numbers
    )


def report(rows: Iterable[ModelTime]) -> StepReport:
    return StepReport(conditions=CONDITIONS, peak_gflops=1.0, rows=tuple(rows))


def front(found: list[Point]) -> set[str]:
    return {point.model for point in found if point.on_front}


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(70, 74)), min_size=len(NAMES), max_size=len(NAMES)))
def test_the_front_is_that_of_a_walk_from_the_fastest_to_the_slowest(drawn):
    known = dict(zip(NAMES, drawn, strict=True))
    published = {name: Accuracy(name, "all", float(top1), "") for name, (_, top1) in known.items()}
    found = points(published, report(timed(name, float(ms)) for name, (ms, _) in known.items()))
    best, wanted = 0, set()
    for ms in sorted({ms for ms, _ in drawn}):
        top1 = max(one for time, one in drawn if time == ms)
        if top1 > best:
            wanted |= {name for name, pair in known.items() if pair == (ms, top1)}
            best = top1
    assert front(found) == wanted


def test_models_without_time_or_accuracy_stay_in_the_list():
    published = {
        "botnet_t3": Accuracy("T3", "BoTNet", 81.7, ""),
        "botnet_t4": Accuracy("T4", "BoTNet", 82.8, ""),
        "botnet_t5": Accuracy("T5", "BoTNet", 83.5, ""),
        "senet_s1": Accuracy("S1", "SENet", None, ""),
    }
    rows = [
        timed("botnet_t3", 10.0),
        timed("botnet_t4", None),
        timed("botnet_t5", 1.0, size=64),
        timed("senet_s1", 4.0),
    ]
    found = points(published, report(rows))
    assert [point.ms_per_image for point in found] == [5.0, None, None, 2.0]  # T5's own size is another
    assert front(found) == {"botnet_t3"}
    lines = "\n".join(missing(found))
    assert "why: T4" in lines
    assert "T5" in lines
    assert "not published: S1" in lines


def test_every_model_of_the_figure_can_be_timed():
    assert accuracies().keys() <= MODELS.keys()
    assert MODELS["efficientnet_b7"].size == 600
    assert MODELS["botnet_t7"].size == 384


def test_a_ratio_is_that_of_single_images():
    ratio = PublishedRatio("botnet50", 1024, "resnet50", 1024, 1.3, "Table 1")
    rows = [timed("botnet50", 30.0, 1024, batch=1), timed("resnet50", 40.0, 1024, batch=2)]
    assert ratio.measured(report(rows)) == 1.5
    assert ratio.measured(report(rows[:1])) is None
    assert ratio.measured(report([timed("botnet50", 30.0, 224), rows[1]])) is None


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_slope_of_a_power_law_is_its_exponent(power):
    sides = [8, 16, 24, 100]
    assert slope(sides, [3 * (side * side) ** power for side in sides]) == pytest.approx(power)
    assert slope(sides, [3 * 64**power, None, 3 * 576**power, None]) == pytest.approx(power)
    assert slope(sides, [1.0, None, None, None]) is None


def test_a_time_is_expected_to_follow_the_work_and_memory_the_positions():
    sides = [10, 20]
    time = Growth("layer", "training (ms)", sides, [1.0, 9.0], [2, 1], work=[100, 1600])
    assert time.expected == pytest.approx(2.0)
    assert Growth("layer", "training (MiB)", sides, [1.0, 4.0], [2, 2]).expected == 1.0
