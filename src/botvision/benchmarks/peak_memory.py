"""The most memory that a call holds at once, beyond what was there before it."""

import ctypes
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

PROCESS = Path("/proc/self")
LIBRARY = ctypes.CDLL(None) if (PROCESS / "clear_refs").exists() else None
"""The C library of Linux; other systems do not tell what a process held."""
if not hasattr(LIBRARY, "malloc_trim"):  # another one than GNU's
    LIBRARY = None

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Names of the GNU C library (malloc.h)."""
LEAST_MAPPED = 2**16
"""Bytes from which a buffer is given back at once: larger ones are mappings of their own."""
USUAL_MAPPED = 2**25
"""The threshold that the library comes to by itself in a process that has freed large buffers."""


def peak_memory(call: Callable[[], object], device: torch.device) -> int | None:
    """Bytes that a call takes at its peak; run it once before, so that what libraries keep for good is not counted.

    On a GPU: what PyTorch has allocated there. On a processor: the growth of the process's resident memory, as Linux
    counts it, so that buffers inside the matrix libraries count too; good to about half a MiB inside
    :func:`freed_at_once`. None where the system does not tell.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    if LIBRARY is None:
        return None
    LIBRARY.malloc_trim(0)
    (PROCESS / "clear_refs").write_text("5")  # the peak starts again from what is resident now
    before = resident("VmRSS")
    call()
    return max(0, resident("VmHWM") - before)


@contextmanager
def freed_at_once() -> Iterator[None]:
    """Have the C library give every freed buffer back to the system at once, so that it is not counted any more.

    Otherwise the library keeps freed buffers, and takes more memory where the next buffer does not fit into them. Use
    it before the process frees large buffers; afterwards the thresholds are those that the library comes to by itself.
    What was allocated inside lies elsewhere for good, so that steps of whole models take longer than in a process
    without this. Times of an attention layer show no difference.
    """
    if LIBRARY is None:
        yield
        return
    gc.collect()
    LIBRARY.mallopt(M_MMAP_THRESHOLD, LEAST_MAPPED)
    try:
        yield
    finally:
        LIBRARY.mallopt(M_MMAP_THRESHOLD, USUAL_MAPPED)
        LIBRARY.mallopt(M_TRIM_THRESHOLD, 2 * USUAL_MAPPED)


def resident(field: str) -> int:
    """Bytes of a field of the process's status."""
    lines = (PROCESS / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024
