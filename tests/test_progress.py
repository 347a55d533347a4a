"""The time left that a run prints, against a clock that the test moves."""

from io import StringIO

import pytest
from rich.console import Console

from botvision.progress import Reporter


@pytest.fixture
def clock():
    return [0.0]


@pytest.fixture
def reporter(clock):
    reporter = Reporter(Console(file=StringIO(), width=80))
    reporter.get_time = lambda: clock[0]
    with reporter:
        yield reporter


def lines(reporter):
    return reporter.console.file.getvalue().splitlines()


def test_where_there_is_no_terminal_a_line_comes_every_ten_seconds_and_at_both_ends(reporter, clock):
    for done in range(5, 31):  # a run that goes on after step 4
        clock[0] += 3
        reporter.show("training, step", done, 30, "loss 1.2")
    assert [line.split()[2].rstrip(",") for line in lines(reporter)] == [
        f"{done}/30" for done in (5, 9, 13, 17, 21, 25, 29, 30)
    ]
    assert "0:01:03 left" in lines(reporter)[1]  # 21 steps of 3 seconds
    assert all("loss 1.2" in line for line in lines(reporter))
    assert "left" not in lines(reporter)[0] and "left" not in lines(reporter)[-1]


def test_steps_of_minutes_have_a_time_left(reporter, clock):
    for done in range(1, 4):
        clock[0] += 120
        reporter.show("training, step", done, 10)
    assert "0:14:00 left" in lines(reporter)[-1]


def test_the_same_task_can_be_done_again(reporter, clock):
    for _ in range(2):
        for done in (1, 2):
            clock[0] += 20
            reporter.show("evaluating, image", done, 2)
    assert [line.split()[2] for line in lines(reporter)] == ["1/2", "2/2"] * 2


def test_colours_that_are_forced_make_no_terminal_of_a_pipe(monkeypatch, clock):
    monkeypatch.setenv("FORCE_COLOR", "1")  # as Jupyter does
    console = Console(file=StringIO(), width=80)
    assert console.is_terminal
    with Reporter(console) as reporter:
        reporter.show("training, step", 1, 2)
        reporter.show("training, step", 2, 2)
    assert [line.split(",")[0] for line in lines(reporter)] == ["training", "training"]
    assert "\x1b" not in console.file.getvalue()
