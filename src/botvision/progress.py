"""How far a run is: a bar in a terminal, plain lines elsewhere."""

from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_EVERY_SECONDS = 10.0


class Reporter(Progress):
    """Shows one task at a time with its time left.

    Args:
        console: where to; a terminal gets a bar that moves, anything else a line every ten seconds.
    """

    def __init__(self, console: Console) -> None:
        # FORCE_COLOR, which Jupyter sets, makes a terminal of a pipe for rich; a bar would be thousands of lines there.
        self.has_bar = console.is_terminal and console.file.isatty()
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
            console=console,
            transient=True,
            disable=not self.has_bar,  # it counts all the same, for the lines
            speed_estimate_period=600,
        )
        self.printed: dict[str, float] = {}
        """When the last line of a task was printed."""

    def stop(self) -> None:
        """Remove the bar; rich before 14.3 prints an empty line even where there is none."""
        if not self.disable:
            super().stop()

    def show(self, what: str, done: int, total: int, text: str = "") -> None:
        """Say that ``done`` of ``total`` are done of a task; ``text`` goes behind it."""
        task = next((task for task in self.tasks if task.description == what), None)
        identity = task.id if task else self.add_task(what, total=total, completed=done - 1, text=text)
        self.update(identity, completed=done, text=text)
        is_line_due = self.get_time() - self.printed.get(what, float("-inf")) >= LINE_EVERY_SECONDS
        if not self.has_bar and (is_line_due or done >= total):
            seconds = task.time_remaining if task and done < total else None
            left = f", {timedelta(seconds=seconds)} left" if seconds is not None else ""
            suffix = f", {text}" if text else ""
            self.console.print(f"{what} {done}/{total}{left}{suffix}", highlight=False, soft_wrap=True)
            self.printed[what] = self.get_time()
        if done >= total:
            self.remove_task(identity)
            self.printed.pop(what, None)
