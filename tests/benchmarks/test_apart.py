"""Calls in a process of their own: their answers, their errors, and processes that are killed."""

import os
import signal
import sys

import pytest

from botvision.benchmarks.apart import Ended, answers_apart


def test_answers_come_in_order():
    assert list(answers_apart(len, ["", "a", "ab"])) == [0, 1, 2]
    assert list(answers_apart(len, [])) == []


def test_what_a_call_changes_stays_in_its_process():
    before = os.umask(0o022)
    os.umask(before)
    other = 0o077 if before != 0o077 else 0o022
    assert list(answers_apart(os.umask, [other, other])) == [before, other]  # one process for both
    assert os.umask(before) == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_killed_process_costs_one_answer():
    answers = list(answers_apart(signal.raise_signal, [0, signal.SIGKILL, 0]))
    assert answers == [None, Ended(-signal.SIGKILL), None]
    assert answers[1].was_killed


def test_a_process_that_leaves_costs_one_answer():
    assert list(answers_apart(os._exit, [3])) == [Ended(3)]
    assert not Ended(3).was_killed


def test_errors_are_raised_here():
    answers = answers_apart(int, ["1", "x", "2"])
    assert next(answers) == 1
    with pytest.raises(ValueError, match="'x'"):
        next(answers)
