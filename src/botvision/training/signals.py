"""Ctrl-C ends a run after the current step, with a checkpoint."""

import os
import signal
from contextlib import ExitStack
from types import FrameType
from typing import Self

from botvision.device import first_process


class StopSignals(ExitStack):
    """A context in which the first SIGINT or SIGTERM sets ``asked``, and a second one raises KeyboardInterrupt."""

    asked = False

    def __enter__(self) -> Self:
        """Take over the two signals; at the end, the handlers that were there before are restored."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self.callback(signal.signal, number, signal.signal(number, self.receive))
        return super().__enter__()

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Remember the first signal and tell the user; raise at the second."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        if first_process():  # not by print: the signal may have interrupted one
            os.write(2, b"\nfinishing the step; press again to stop at once\n")
