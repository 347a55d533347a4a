"""Calls in a process of their own: for what leaves the process behind changed, or may be killed."""

import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import TypeVar

Job = TypeVar("Job")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Ended:
    """Stands for the answer of a process that ended without one."""

    status: int
    """Its exit status; a signal that ended it as a negative number."""

    @property
    def was_killed(self) -> bool:
        """As Linux does to a process when memory runs out."""
        return self.status == -getattr(signal, "SIGKILL", 9)


def answers_apart(function: Callable[[Job], Answer], jobs: Sequence[Job]) -> Generator[Answer | Ended, None, None]:
    """Call a function with one job after the other in another process, and yield its answers in their order.

    One process does all jobs; where it ends too early, a new one goes on with the job after that.

    Args:
        function: of a module, so that the other process can import it.
        jobs: what can be pickled.

    Raises:
        Exception: what the function raised.
    """
    done = 0
    while done < len(jobs):
        with working(function, jobs[done:]) as (process, answers):
            while done < len(jobs):
                try:
                    answer = answers.recv()
                except EOFError:
                    process.join()
                    yield Ended(process.exitcode or 0)
                    done += 1
                    break
                if isinstance(answer, Exception):
                    raise answer
                yield answer
                done += 1


@contextmanager
def working(function: Callable[[Job], Answer], jobs: Sequence[Job]) -> Iterator[tuple[BaseProcess, Connection]]:
    """A new process that does the jobs, and where its answers arrive."""
    spawn = get_context("spawn")  # a fork of a process with OpenMP's threads waits for them forever
    answers, sender = spawn.Pipe(duplex=False)
    process = spawn.Process(target=work, args=(function, jobs, sender), daemon=True)
    with interrupts_ignored():
        process.start()
    sender.close()
    try:
        yield process, answers
    finally:
        process.terminate()
        process.join()
        answers.close()


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Let a process that is started here ignore Ctrl-C: this one ends it, without a traceback of its own."""
    if threading.current_thread() is not threading.main_thread():  # where no handler can be set
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def work(function: Callable[[Job], Answer], jobs: Sequence[Job], sender: Connection) -> None:
    """Send the answer to each job, or the error that ends the work."""
    for job in jobs:
        try:
            answer: Answer | Exception = function(job)
        except Exception as error:  # it is raised again where the answer is asked for
            sender.send(error)
            return
        sender.send(answer)
