"""A linear model to test the loop with, and what disturbs its runs."""

import csv
import importlib.util
import os
import resource
import signal
from contextlib import contextmanager
from pathlib import Path

import pytest

from botvision.training.config import RunConfig

spec = importlib.util.spec_from_file_location("linear_task", Path(__file__).with_name("linear_task.py"))
linear_task = importlib.util.module_from_spec(spec)
spec.loader.exec_module(linear_task)

RUN = RunConfig(steps=5, batch_size=8, precision="float32", device="cpu", eval_every=3, save_every=2, log_every=1)


@pytest.fixture
def make_task(tmp_path):
    """Makes the task of a run of five steps in ``tmp_path / "run"``, with other fields of the run if given."""

    def make(*, dropout: float = 0.0, workers: int = 0, scored: bool = True, **run):
        settings = RUN.replace(**{"out": tmp_path / "run", **run})
        return linear_task.LinearTask(settings, dropout=dropout, workers=workers, scored=scored)

    return make


@pytest.fixture
def in_batch():
    """Does something after the losses of a batch of a task, once: in_batch(task, 3, action)."""

    def arrange(task, number: int, action) -> None:
        losses, calls = task.losses, []

        def disturbed(model, batch):
            calls.append(1)
            found = losses(model, batch)
            return (action(found) or found) if len(calls) == number else found

        task.losses = disturbed

    return arrange


@pytest.fixture
def interrupt():
    """Sends SIGINT to this process; give it to ``in_batch``."""
    return lambda found=None: os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def to_nan():
    """Makes the loss NaN; give it to ``in_batch``."""
    return lambda found: found | {"loss": found["loss"] * float("nan")}


@pytest.fixture
def rows_of():
    """The lines of a table of a run folder, ``metrics.csv`` or ``evaluations.csv``."""

    def read(folder: Path, table: str = "metrics") -> list[dict[str, str]]:
        with (folder / f"{table}.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    return read


@pytest.fixture(autouse=True)
def restored_signals():
    """A test that fails must not leave a handler behind."""
    before = {
        number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def full_disk():
    """A context in which no file can grow over so many bytes."""

    @contextmanager
    def limit(size: int):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limit
