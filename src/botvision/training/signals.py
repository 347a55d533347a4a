"""Signals that end a run after its step, or inside its evaluation, with a checkpoint."""

import os
import signal
import threading
from contextlib import ExitStack
from types import FrameType
from typing import Self

from botvision.device import first_process

FROM_SCHEDULERS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""Sent before a job is ended, moved or pre-empted: it is to be started again. SIGUSR1 is SLURM's usual warning."""


class StopSignals(ExitStack):
    """A context in which signals that ask a run to stop are remembered; a second SIGINT raises KeyboardInterrupt.

    Schedulers repeat their signals, which changes nothing. In another thread than the main one nothing is taken over,
    because Python does not allow it.
    """

    asked = False
    """Whether a signal has come."""
    requeue = False
    """Whether it came from a scheduler."""

    def __enter__(self) -> Self:
        """Take over the signals; at the end, the handlers that were there before are restored."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, *FROM_SCHEDULERS):
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # which nohup ignores
                    self.callback(signal.signal, number, signal.signal(number, self.receive))
        return super().__enter__()

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Remember a signal and tell the user of the first one; raise at a second SIGINT."""
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        is_first, self.asked = not self.asked, True
        self.requeue |= number != signal.SIGINT
        if is_first and first_process():  # not by print: the signal may have interrupted one
            os.write(2, b"\nstopping with a checkpoint; Ctrl-C stops at once\n")
