"""Signals stop a run with a checkpoint, also inside an evaluation, and what was due then is made up."""

import multiprocessing
import os
import signal
import sys
import threading

import pytest
import torch
from rich.console import Console
from torch.utils.data import DataLoader, Dataset

from botvision.checkpoint import read_checkpoint
from botvision.data.loading import evaluation_loader, leave_process_group
from botvision.errors import StoppedError, UserError
from botvision.training import signals
from botvision.training.signals import StopSignals
from botvision.training.trainer import start

CONSOLE = Console(stderr=True)
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1]


def send(number):
    return lambda *_: os.kill(os.getpid(), number)


def end_of(folder, rows_of):
    """What must not depend on interruptions."""
    checkpoints = [read_checkpoint(folder / "checkpoints" / f"{name}.ckpt") for name in ("last", "best")]
    weights = [value.tolist() for content in checkpoints for value in content["state_dict"].values()]
    steps = [(content["step"], content["best"], content["evaluated"]) for content in checkpoints]
    tables = [
        [[row[name] for name in columns] for row in rows_of(folder, table)]
        for table, columns in (("metrics", ("step", "lr", "loss", "error")), ("evaluations", ("step", "val_error")))
    ]
    return weights, steps, tables, (folder / "eval" / "metrics.json").read_text()


@pytest.fixture
def not_by_nohup():
    """SIGHUP is not ignored, as it is where nohup started the tests."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def uninterrupted(make_task, tmp_path, rows_of):
    return end_of(start(make_task(log_every=2, out=tmp_path / "whole"), "linear", CONSOLE).folder, rows_of)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_run_after_its_step(make_task, in_batch, rows_of, uninterrupted, number, not_by_nohup):
    task = make_task(log_every=2)
    in_batch(task, 3, send(number))
    outcome = start(task, "linear", CONSOLE)
    assert (outcome.stopped, outcome.steps, outcome.requeue) == (True, 3, number != signal.SIGINT)
    assert end_of(start(make_task(log_every=2), "linear", CONSOLE).folder, rows_of) == uninterrupted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1])
@pytest.mark.parametrize("evaluation", [1, 2])  # in between, and the last one
def test_a_signal_in_an_evaluation_stops_it_and_it_is_made_up(make_task, rows_of, uninterrupted, number, evaluation):
    task = make_task(log_every=2)
    evaluate, calls = task.evaluate, []

    def disturbed(model, batch_size, on_image):
        calls.append(1)
        if len(calls) == evaluation:
            send(number)()
            on_image(1, 24)
            raise AssertionError("the evaluation went on")
        return evaluate(model, batch_size, on_image)

    task.evaluate = disturbed
    outcome = start(task, "linear", CONSOLE)
    step = 3 if evaluation == 1 else 5
    assert (outcome.stopped, outcome.steps, outcome.requeue) == (True, step, number != signal.SIGINT)
    assert end_of(start(make_task(log_every=2), "linear", CONSOLE).folder, rows_of) == uninterrupted


class Stalled(Dataset):
    """So many samples, and then none, as of a server that does not answer, but a signal to the run."""

    def __init__(self, samples: int) -> None:
        self.samples, self.run = samples, os.getpid()

    def __getitem__(self, place_and_index):
        place, index = place_and_index
        if place < self.samples:
            return index
        return self.wait()

    def wait(self):
        os.kill(self.run, signal.SIGUSR1)
        try:
            threading.Event().wait()
        except Exception as error:  # as who reads an image takes every error for damage
            raise UserError("the image is damaged") from error


@pytest.mark.parametrize(("batches", "step"), [(1, 3), (2, 0)])
def test_a_signal_ends_a_wait_for_data(make_task, tmp_path, monkeypatch, rows_of, batches, step):
    """With a checkpoint, but where the first of two batches of the step has changed the batch norm already."""
    monkeypatch.setattr(signals, "LONGEST_WAIT", 0.05)
    monkeypatch.setattr(signals, "AGAIN", 0.05)
    settings = {"save_every": 100, "eval_every": 5, "images_per_device": 8 // batches}
    whole = start(make_task(out=tmp_path / "whole", **settings), "linear", CONSOLE).folder
    task, stalled = make_task(**settings), Stalled(3 * 8 + 4 * (batches - 1))
    task.loader = lambda sampler: DataLoader(stalled, batch_sampler=sampler, collate_fn=task.collate)
    outcome = start(task, "linear", CONSOLE)
    assert (outcome.stopped, outcome.steps, outcome.requeue) == (True, step, True)
    assert end_of(start(make_task(**settings), "linear", CONSOLE).folder, rows_of) == end_of(whole, rows_of)


def test_a_signal_ends_an_evaluation_whose_data_do_not_come(make_task, monkeypatch, rows_of, uninterrupted):
    monkeypatch.setattr(signals, "LONGEST_WAIT", 0.05)
    monkeypatch.setattr(signals, "AGAIN", 0.05)
    task = make_task(log_every=2)
    task.evaluate = lambda *_: next(iter(evaluation_loader(Stalled(0), 1, 0)))
    monkeypatch.setattr(Stalled, "__len__", lambda stalled: 1, raising=False)
    monkeypatch.setattr(Stalled, "__getitem__", lambda stalled, index: stalled.wait())
    outcome = start(task, "linear", CONSOLE)
    assert (outcome.stopped, outcome.steps, outcome.requeue) == (True, 3, True)
    assert end_of(start(make_task(log_every=2), "linear", CONSOLE).folder, rows_of) == uninterrupted


def test_a_run_whose_data_come_finishes_its_step_however_long_ago_the_signal_was(make_task, monkeypatch):
    """Each of its waits is short, and together they are longer than a wait may be."""
    now = [0.0]
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    task = make_task(images_per_device=2)
    collate, calls = task.collate, []

    def slow(indices):
        calls.append(1)
        if len(calls) == 6:
            send(signal.SIGUSR1)()
        now[0] += 0.9 * signals.LONGEST_WAIT
        if len(calls) > 6:
            signal.raise_signal(signal.SIGALRM)
        return collate(indices)

    task.collate = slow
    outcome = start(task, "linear", CONSOLE)
    assert (outcome.stopped, outcome.steps) == (True, 2)


def test_the_alarm_of_a_caller_stays_its_own(make_task):
    """As of a program that limits its own time."""
    rung = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    signal.setitimer(signal.ITIMER_REAL, 1000)
    try:
        task = make_task()
        task.after_step = lambda model, step: signal.raise_signal(signal.SIGALRM)
        assert not start(task, "linear", CONSOLE).stopped
        assert len(rung) == 5
        with StopSignals():
            send(signal.SIGUSR1)()
            assert signal.getitimer(signal.ITIMER_REAL)[0] < 10
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 900
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_no_wait_is_ended_that_is_not_for_data(monkeypatch):
    """The other processes would wait for this one."""
    monkeypatch.setattr(signals, "AGAIN", 0.001)
    monkeypatch.setattr(signals, "LONGEST_WAIT", 0.001)
    with StopSignals() as asked:
        send(signal.SIGUSR1)()
        asked.end_wait(signal.SIGALRM, None)
        with pytest.raises(StoppedError), asked.waiting():
            threading.Event().wait()
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_readers_that_are_stuck_do_not_keep_the_run(monkeypatch):
    monkeypatch.setattr(signals, "LONGEST_WAIT", 0.1)
    monkeypatch.setattr(signals, "AGAIN", 0.1)
    monkeypatch.setattr(Stalled, "__len__", lambda stalled: 8, raising=False)
    monkeypatch.setattr(Stalled, "__getitem__", lambda stalled, index: stalled.wait())
    with StopSignals(), pytest.raises(StoppedError):
        list(evaluation_loader(Stalled(0), 1, 4))
    for child in multiprocessing.active_children():
        child.join(3)  # PyTorch alone would wait for five seconds, and for one after the other
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("part", ["evaluate", "write_results", "draw_results"])
@pytest.mark.parametrize("evaluation", [1, 2])
def test_an_evaluation_that_failed_is_made_up(make_task, tmp_path, rows_of, uninterrupted, part, evaluation):
    task = make_task(log_every=2)
    original, calls = getattr(task, part), []

    def fails(*arguments):
        calls.append(1)
        if len(calls) == evaluation:
            raise OSError("the disk is gone")
        return original(*arguments)

    setattr(task, part, fails)
    with pytest.raises(OSError, match="the disk is gone"):
        start(task, "linear", CONSOLE)
    assert end_of(start(make_task(log_every=2), "linear", CONSOLE).folder, rows_of) == uninterrupted


def test_schedulers_may_repeat_their_signals_and_a_second_ctrl_c_stops_at_once():
    before = [signal.getsignal(number) for number in SIGNALS]
    with StopSignals() as signals:
        for number in [*SIGNALS[1:], *SIGNALS[1:]]:
            send(number)()
        assert (signals.asked, signals.requeue) == (True, True)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)()
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            send(signal.SIGHUP)()
            assert not signals.asked
    finally:
        signal.signal(signal.SIGHUP, before)


class Numbers(Dataset):
    """Of the process that reads, which gets signals of itself while it does, as SLURM sends them to all processes."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int):
        for number in SIGNALS if sys.platform == "linux" else (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            os.kill(os.getpid(), number)
        while signal.SIGTERM in signal.sigpending():  # the system keeps one: meanwhile that of the run would be lost
            os.sched_yield()
        return torch.tensor([os.getpid()]), {}


def test_a_process_that_reads_ignores_signals_to_the_run_and_ends_at_its_word():
    loader = evaluation_loader(Numbers(), 1, 1)
    readers = [int(batch["images"]) for batch in loader]
    assert len(readers) == 3 and readers[0] != os.getpid()
    iterator = iter(DataLoader(Numbers(), 1, num_workers=1, worker_init_fn=leave_process_group, collate_fn=list))
    assert len([next(iterator) for _ in range(3)]) == 3  # all, so that it gets no more signals of itself
    (child,) = multiprocessing.active_children()
    child.terminate()
    child.join(30)
    assert not child.is_alive()
