"""What commands print: results on standard output, progress and messages on standard error."""

import json
from collections.abc import Callable, Iterable
from typing import Any

from rich.console import Console

from botvision.cli.app import INTERRUPTED
from botvision.device import first_process
from botvision.training.trainer import Outcome


def stderr() -> Console:
    """Where progress and messages go; of several processes only the first one prints."""
    return Console(stderr=True, quiet=not first_process(), markup=False)


def say(message: str) -> None:
    """Print a message on standard error, on one line, with names of files as they are."""
    stderr().print(message, highlight=False, soft_wrap=True)


def print_json(content: Any) -> None:  # noqa: ANN401
    """Print plain data as JSON on standard output; of several processes only the first one prints."""
    if first_process():
        print(json.dumps(content, allow_nan=False))


def print_tables(tables: Iterable[Any]) -> None:
    """Print tables and lines on standard output; of several processes only the first one prints."""
    if first_process():
        for table in tables:
            Console(markup=False, highlight=False).print(table)


def report_run(outcome: Outcome, tables: Callable[[dict[str, Any]], Iterable[Any]], as_json: bool) -> int:
    """Say how a training run ended; gives the exit status, 130 where it was interrupted.

    Args:
        outcome: of the training loop.
        tables: makes tables of scores, for a terminal.
        as_json: print the scores as JSON instead.
    """
    if outcome.stopped:
        say(f"stopped after step {outcome.steps}; go on with: botvision train --resume {outcome.folder}")
        return INTERRUPTED
    if as_json:
        print_json(outcome.scores or {})
    elif outcome.scores:
        print_tables(tables(outcome.scores))
    say(f"run: {outcome.folder}")
    return 0
