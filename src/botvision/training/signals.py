"""Signals that end a run after its step, inside its evaluation, or while it waits for data that do not come."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Self

from botvision.device import first_process
from botvision.errors import StoppedError

FROM_SCHEDULERS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""Sent before a job is ended, moved or pre-empted: it is to be started again. SIGUSR1 is SLURM's usual warning."""


LONGEST_WAIT, AGAIN = 10.0, 1.0
"""Seconds that a run still waits for data after a signal; and until it is looked again whether it waits."""


class StopSignals(ExitStack):
    """A context in which signals that ask a run to stop are remembered; a second SIGINT raises KeyboardInterrupt.

    The run looks for them after each step and each batch of an evaluation. Where a signal came some seconds ago and the
    run waits (:meth:`waiting`), it raises a StoppedError. Schedulers repeat their signals, which changes nothing. In
    another thread than the main one nothing is taken over, because Python does not allow it.
    """

    asked = False
    """Whether a signal has come."""
    requeue = False
    """Whether it came from a scheduler."""
    waits = False
    """Whether the run waits for something that may not come."""

    def __enter__(self) -> Self:
        """Take over the signals; at the end, the handlers that were there before are restored."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, *FROM_SCHEDULERS):
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # which nohup ignores
                    self.callback(signal.signal, number, signal.signal(number, self.receive))
            self.callback(signal.signal, signal.SIGALRM, signal.signal(signal.SIGALRM, self.end_wait))
            self.callback(signal.setitimer, signal.ITIMER_REAL, 0)
        return super().__enter__()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what may not come.

        Raises:
            StoppedError: inside, :data:`LONGEST_WAIT` seconds after a signal.
        """
        self.waits = True
        try:
            yield
        finally:
            self.waits = False

    def end_wait(self, number: int, frame: FrameType | None) -> None:
        """Raise, now that time is up, if the run waits; and again where somebody catches that and goes on waiting."""
        signal.setitimer(signal.ITIMER_REAL, AGAIN)
        if self.waits:
            raise StoppedError("stopped while waiting for data")

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Remember a signal and tell the user of the first one; raise at a second SIGINT."""
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        is_first, self.asked = not self.asked, True
        if is_first:
            signal.setitimer(signal.ITIMER_REAL, LONGEST_WAIT)
        self.requeue |= number != signal.SIGINT
        if is_first and first_process():  # not by print: the signal may have interrupted one
            os.write(2, b"\nstopping with a checkpoint; Ctrl-C stops at once\n")
