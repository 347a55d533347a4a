"""What a run leaves behind, read back with other tools."""

import json
import platform
from datetime import UTC, datetime, timedelta

import pytest
import torch
import yaml
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from botvision.errors import UserError
from botvision.training.config import RunConfig
from botvision.training.run_folder import read_config, read_scores
from botvision.training.trainer import start

CONSOLE = Console(stderr=True)


@pytest.fixture
def finished(make_task):
    return start(make_task(), "small/linear", CONSOLE).folder


def test_the_configuration_reads_back(finished, make_task):
    record = read_config(finished)
    assert (record.experiment, record.task) == ("small/linear", "linear")
    assert RunConfig(**record.settings["run"]) == make_task().experiment.run
    assert list(yaml.safe_load((finished / "config.yaml").read_text())) == ["experiment", "task", "run"]


def test_the_environment_says_what_it_ran_on(finished):
    content = json.loads((finished / "environment.json").read_text())
    assert content["torch"] == torch.__version__
    assert content["python"] == platform.python_version()
    assert content.keys() >= {"botvision", "torchvision", "lightning_fabric", "processors", "gpus", "command"}


def test_metrics_have_every_step_and_every_evaluation(finished, rows_of, make_task):
    losses, scores = rows_of(finished), rows_of(finished, "evaluations")
    assert [row["step"] for row in losses] == ["1", "2", "3", "4", "5"]
    assert [(row["step"], float(row["val_error"]) > 0) for row in scores] == [("3", True), ("5", True)]
    assert list(scores[0]) == ["step", "time", "val_error"]
    times = [datetime.fromisoformat(row["time"]) for row in losses + scores]
    assert all(time.utcoffset() == timedelta(0) and time.microsecond == 0 for time in times)
    assert abs(max(times) - datetime.now(UTC)) < timedelta(minutes=1)
    rate = make_task().rate
    assert [float(row["lr"]) for row in losses] == pytest.approx([0.05 * rate(step, 5) for step in range(5)])
    for row in losses:
        assert float(row["images_per_second"]) > 0
        assert 0 <= float(row["data_wait"]) <= 1
        assert float(row["memory_mb"]) > 100
        assert float(row["epoch"]) == pytest.approx(int(row["step"]) * 8 / 24, abs=1e-4)


def test_a_line_has_the_means_since_the_line_before_and_the_last_step_one_in_any_case(make_task, rows_of, tmp_path):
    every = rows_of(start(make_task(log_every=1, eval_every=5), "linear", CONSOLE).folder)
    second = rows_of(start(make_task(log_every=2, eval_every=5, out=tmp_path / "r"), "linear", CONSOLE).folder)
    losses = [float(row["loss"]) for row in every]
    means = [(losses[0] + losses[1]) / 2, (losses[2] + losses[3]) / 2, losses[4]]
    assert [row["step"] for row in second] == ["2", "4", "5"]
    assert [float(row["loss"]) for row in second] == pytest.approx(means)


def test_tensorboard_shows_the_same_numbers(finished, rows_of):
    events = EventAccumulator(str(finished / "tensorboard")).Reload()
    curves: dict[str, list] = {}
    for row in rows_of(finished) + rows_of(finished, "evaluations"):
        for name, value in row.items():
            if name not in ("step", "time"):
                curves.setdefault(name, []).append((int(row["step"]), pytest.approx(float(value), rel=1e-6)))
    assert set(events.Tags()["scalars"]) == curves.keys()
    for name, points in curves.items():
        assert [(event.step, event.value) for event in events.Scalars(name)] == points


def test_a_score_that_is_none_has_no_value(make_task, rows_of):
    task = make_task()
    evaluate = task.evaluate
    task.evaluate = lambda *arguments: evaluate(*arguments)._replace(columns={"val_error": None})
    folder = start(task, "linear", CONSOLE).folder
    assert [row["val_error"] for row in rows_of(folder, "evaluations")] == ["", ""]


def test_no_temporary_file_is_left(finished):
    files = sorted(str(file.relative_to(finished)) for file in finished.rglob("*") if file.is_file())
    assert [name for name in files if not name.startswith("tensorboard")] == [
        "checkpoints/before.ckpt",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "config.yaml",
        "curves.png",
        "environment.json",
        "eval/metrics.json",
        "evaluations.csv",
        "metrics.csv",
    ]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"a: [", "YAML"),
        (b"\xff\xfe\xfa", "YAML"),
        (b"3", "experiment"),
        (b"experiment: x", "task"),
        (b"experiment: 3\ntask: x", "experiment"),
        (b"a: &a [x, x]\nexperiment: *a\ntask: *a", "aliases"),
        (b"a: " + b"[" * 100_000, "YAML"),
        (b"a: " + b"x" * 2**20, "YAML"),
        (b'"\\ud800": {}\nexperiment: "\\0"', "task"),
        (b"a: " + b"9" * 5000, "YAML"),
    ],
)
def test_a_damaged_configuration_is_named_in_one_line(tmp_path, content, named):
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(UserError, match=named) as caught:
        read_config(tmp_path)
    assert str(tmp_path / "config.yaml") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_value_of_a_configuration_that_is_long_is_shortened(tmp_path):
    (tmp_path / "config.yaml").write_text(f"experiment: x\ntask: x\nrun: {{steps: [{', '.join('x' * 10**5)}]}}")
    with pytest.raises(UserError, match="steps") as caught:
        RunConfig(**read_config(tmp_path).settings["run"])
    assert len(str(caught.value)) < 500


def test_a_folder_of_something_else_is_named(tmp_path):
    with pytest.raises(UserError, match=str(tmp_path)):
        read_config(tmp_path)


def test_names_in_other_scripts_read_back(make_task, tmp_path):
    out = tmp_path / "обучение"
    assert RunConfig(**read_config(start(make_task(out=out), "línea", CONSOLE).folder).settings["run"]).out == out


def test_scores_are_of_the_step_that_is_asked_for(finished):
    scores = read_scores(finished, 5)
    assert list(scores) == ["error"]
    assert read_scores(finished, 3) is None
    assert read_scores(finished / "checkpoints", 5) is None
