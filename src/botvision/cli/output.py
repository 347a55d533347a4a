"""What commands print: results on standard output, progress and messages on standard error."""

import json
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

from rich.console import Console

from botvision.cli.app import INTERRUPTED, TRY_AGAIN
from botvision.device import first_process
from botvision.progress import Reporter
from botvision.training.signals import FROM_SCHEDULERS

if TYPE_CHECKING:
    from botvision.training.trainable import OnImage
    from botvision.training.trainer import Outcome


def stderr() -> Console:
    """Where progress and messages go; of several processes only the first one prints."""
    return Console(stderr=True, quiet=not first_process(), markup=False)


def say(message: str) -> None:
    """Print a message on standard error, on one line, with names of files as they are."""
    stderr().print(message, highlight=False, soft_wrap=True)


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """Around what a training run does before its first step: a scheduler's signal ends it with the status to try again.

    There is nothing to save yet. The run itself takes the signals over while it trains.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(TRY_AGAIN)

    numbers = [number for number in FROM_SCHEDULERS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, leave) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def image_progress(what: str) -> Iterator["OnImage"]:
    """Gives a function that shows how many images are done, of how many."""
    with Reporter(stderr()) as reporter:
        yield partial(reporter.show, f"{what}, image")


def print_results(content: Any, tables: Iterable[Any], *, as_json: bool) -> None:  # noqa: ANN401 (plain data)
    """Print plain data as JSON, or tables and lines, on standard output; of several processes only the first prints.

    Lines stay as long as they are, for those who copy them or give them to another program.
    """
    if not first_process():
        return
    if as_json:
        print(json.dumps(content, allow_nan=False))
        return
    for table in tables:
        Console(markup=False, highlight=False).print(table, soft_wrap=isinstance(table, str))


def report_run(outcome: "Outcome", tables: Callable[[dict[str, Any]], Iterable[Any]], as_json: bool) -> int:
    """Say how a training run ended, with its scores as JSON or as the tables that ``tables`` makes of them.

    Returns:
        The exit status: 130 where the run was interrupted, 75 where a scheduler stopped it.
    """
    if outcome.stopped:
        how = f"go on with: botvision train --resume {outcome.folder}"
        say(f"stopped after step {outcome.steps}; {how if outcome.steps else 'the same command begins again'}")
        return TRY_AGAIN if outcome.requeue else INTERRUPTED
    scores = outcome.scores or {}
    print_results(scores, tables(scores) if scores else [], as_json=as_json)
    say(f"run: {outcome.folder}")
    return 0
