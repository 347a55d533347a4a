"""Files that are written completely or not at all."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from botvision.errors import UserError

NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
"""A full disk, a file over the limit of its size, a user's share of the disk used up."""


@contextmanager
def room_for(path: Path) -> Iterator[None]:
    """Name the file in the error of a full disk; the system does not name it.

    Raises:
        UserError: no space is left for the file.
    """
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise UserError(f"could not write {path} ({error.strerror}); free some space") from error
        raise


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary name to write to. It is renamed to ``path`` at the end, or removed after an error.

    The folder is created if needed. The temporary name keeps the suffix, which tells writers the format.

    Raises:
        UserError: no space is left for the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        with room_for(path):
            yield temporary
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def why_unreadable(error: Exception) -> str:
    """The first line of what a reader of weights says about a file; its lookup errors say nothing to a user."""
    lines = str(error).splitlines()
    if not lines or isinstance(error, LookupError):
        return "it holds no tensors"
    return lines[0][:200]
