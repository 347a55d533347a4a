"""How far a run is: a bar in a terminal, plain lines elsewhere."""

import time
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_EVERY_SECONDS = 10.0


class Reporter:
    """Shows one task at a time with its time left.

    Args:
        console: where to; a terminal gets a bar that moves, anything else a line every ten seconds.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.tasks: dict[str, tuple[int, float, float]] = {}

    def __enter__(self) -> "Reporter":
        """Start showing."""
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop showing."""
        self.progress.stop()

    def show(self, what: str, done: int, total: int, text: str = "") -> None:
        """Say that ``done`` of ``total`` are done of a task; ``text`` goes behind it."""
        if self.console.is_terminal:
            self.bar(what, done, total, text)
        else:
            self.line(what, done, total, text)

    def bar(self, what: str, done: int, total: int, text: str) -> None:
        """Move the bar of a task, and take it away when the task is done."""
        task = next((task for task in self.progress.tasks if task.description == what), None)
        identity = task.id if task else self.progress.add_task(what, total=total, completed=done - 1, text=text)
        self.progress.update(identity, completed=done, text=text)
        if done >= total:
            self.progress.remove_task(identity)

    def line(self, what: str, done: int, total: int, text: str) -> None:
        """Print a line if the last one of this task is long ago, and at its start and end."""
        now = time.monotonic()
        first, started, last = self.tasks.get(what, (done - 1, now, float("-inf")))
        if done < total and now - last < LINE_EVERY_SECONDS:
            self.tasks[what] = (first, started, last)
            return
        left = ""
        if done > first + 1 and done < total:
            seconds = (now - started) / (done - first - 1) * (total - done)
            left = f", {timedelta(seconds=round(seconds))} left"
        self.console.print(f"{what} {done}/{total}{left}{', ' + text if text else ''}", highlight=False, soft_wrap=True)
        if done >= total:
            self.tasks.pop(what, None)
        else:
            self.tasks[what] = (first, started, now)
