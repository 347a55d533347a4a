"""Ctrl-C ends a run after the current step, with a checkpoint."""

import os
import signal
from types import FrameType
from typing import Any, Self

from botvision.device import first_process


class StopSignals:
    """A context in which the first SIGINT or SIGTERM sets ``asked``, and a second one raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self.asked = False
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Take over the two signals."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self.before[number] = signal.signal(number, self.receive)
        return self

    def __exit__(self, *_: object) -> None:
        """Restore the handlers that were there before."""
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Remember the first signal and tell the user; raise at the second."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        if first_process():  # not by print: the signal may have interrupted one
            os.write(2, b"\nfinishing the step; press again to stop at once\n")
