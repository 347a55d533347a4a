"""What a process of a run says to the others when an error ends it: to them it would only be gone, as if it were lost.

A lost process is a reason to start the run again, and an error that comes again at every start is none.
"""

import platform
import time
import traceback
from datetime import timedelta

import torch.distributed as dist
from torch.distributed import distributed_c10d

from botvision.training.connection import POLL, leave

FAILED, KNOWN = "failed", "known"
"""Keys in the store of the run: what failed first, and, with a rank, that this process knows that something did."""
LONGEST_ANSWER = timedelta(seconds=30)
"""How long the first process, on whose machine the store can be, waits until all others know."""


def run_store() -> dist.Store | None:
    """What all processes of the run can write to; None where there is one process alone.

    PyTorch has no public name for it. Without an answer the others take this process for lost.
    """
    get = getattr(distributed_c10d, "_get_default_store", None)
    return get() if get and dist.is_initialized() and dist.get_world_size() > 1 else None


def tell_failure(error: BaseException, problem: str) -> None:
    """Say to the other processes what ends this one, and let their connections to it end.

    Args:
        error: it loses the variables of its traceback, which hold the connections.
        problem: in one line, for people to read.

    Without other processes it does nothing. Processes on processors notice at once (gloo); those on GPUs notice when
    this one has ended.
    """
    store = run_store()
    if store is None:
        return
    rank, world = dist.get_rank(), dist.get_world_size()
    is_noticed = dist.get_backend() == "gloo"
    try:
        store.compare_set(FAILED, "", f"process {rank} of {world} on {platform.node()}: {problem}")
        store.set(f"{KNOWN}/{rank}", "")
        if is_noticed:
            forget_variables(error)
            leave()
        if is_noticed and rank == 0:
            wait_for_all(store, world)
    except RuntimeError:  # the store has ended with another process
        return


def forget_variables(error: BaseException) -> None:
    """Let go of all that the functions held through which an error came, and the errors before it."""
    one: BaseException | None = error
    while one is not None:
        traceback.clear_frames(one.__traceback__)
        one = one.__cause__ or one.__context__


def wait_for_all(store: dist.Store, world: int) -> None:
    """Wait until all processes know of the failure, but not for ever: one of them may be gone."""
    deadline = time.monotonic() + LONGEST_ANSWER.total_seconds()
    while time.monotonic() < deadline and not store.check([f"{KNOWN}/{rank}" for rank in range(world)]):
        time.sleep(POLL)


def failure_elsewhere() -> str | None:
    """What another process failed by; None where none has said so: it was killed, or its machine is lost."""
    store = run_store()
    try:
        if store is None or not store.check([FAILED]):
            return None
        store.set(f"{KNOWN}/{dist.get_rank()}", "")
        return store.get(FAILED).decode()
    except RuntimeError:
        return None
