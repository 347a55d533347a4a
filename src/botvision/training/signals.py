"""Signals that end a run after its step, inside its evaluation, or while it waits for data that do not come."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Self

from botvision import waits
from botvision.device import first_process
from botvision.errors import StoppedError

FROM_SCHEDULERS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""Sent before a job is ended, moved or pre-empted: it is to be started again. SIGUSR1 is SLURM's usual warning."""


LONGEST_WAIT, AGAIN = 10.0, 1.0
"""Seconds: the longest wait for data once a signal has come, and the time between two looks at how long it is."""


class StopSignals(ExitStack):
    """A context in which signals that ask a run to stop are remembered; a second SIGINT raises KeyboardInterrupt.

    The run looks for them after each step and each batch of an evaluation. Where it waits for data meanwhile
    (:meth:`waiting`), and for long, the wait ends with a StoppedError. Schedulers repeat their signals, which changes
    nothing. In another thread than the main one nothing is taken over, because Python does not allow it.
    """

    asked = False
    """Whether a signal has come."""
    requeue = False
    """Whether it came from a scheduler."""
    waits_since: float | None = None
    """When the run began to wait for data; None where it does not."""

    def __enter__(self) -> Self:
        """Take over the signals; at the end, the handlers that were there before are restored."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, *FROM_SCHEDULERS):
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # which nohup ignores
                    self.callback(signal.signal, number, signal.signal(number, self.receive))
        self.callback(setattr, waits, "surrounding", waits.surrounding)
        waits.surrounding = self.waiting
        return super().__enter__()

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Remember a signal and tell the user of the first one; raise at a second SIGINT."""
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        is_first, self.asked = not self.asked, True
        self.requeue |= number != signal.SIGINT
        if is_first:
            self.callback(signal.signal, signal.SIGALRM, signal.signal(signal.SIGALRM, self.end_wait))
            before = signal.setitimer(signal.ITIMER_REAL, AGAIN)
            self.callback(signal.setitimer, signal.ITIMER_REAL, *before)
        if is_first and first_process():  # not by print: the signal may have interrupted one
            os.write(2, b"\nstopping with a checkpoint; Ctrl-C stops at once\n")

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what may not come.

        Raises:
            StoppedError: inside, where a signal has come and it takes more than :data:`LONGEST_WAIT` seconds.
        """
        before, self.waits_since = self.waits_since, time.monotonic()
        try:
            yield
        finally:
            self.waits_since = before

    def end_wait(self, number: int, frame: FrameType | None) -> None:
        """Raise where the run has waited for too long; called again and again, also where somebody catches that."""
        signal.setitimer(signal.ITIMER_REAL, AGAIN)
        if self.waits_since is not None and time.monotonic() - self.waits_since >= LONGEST_WAIT:
            raise StoppedError("stopped while waiting for data")
