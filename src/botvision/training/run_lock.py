"""One run at a time in a folder."""

import errno
import fcntl
import logging
import os
import platform
from pathlib import Path
from typing import Self

from botvision.errors import UserError
from botvision.files import read_file

logger = logging.getLogger("botvision")


class RunLock:
    """Holds ``.lock`` in the folder of a run. Of the processes of a run, the first one holds it for all.

    It is the system's own lock on an open file (``lockf``), so it ends with the process that holds it, however that
    ends: killed, or with its machine. Processes that it started, such as those that read images, do not hold it on.
    On network file systems the server keeps it, for up to about two minutes after a machine was lost (NFS); one that
    has no locks is warned of.
    """

    def __init__(self) -> None:
        self.path: Path | None = None
        self.descriptor = -1

    def __enter__(self) -> Self:
        """Hold nothing yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release the lock, and remove its file."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
            os.close(self.descriptor)

    def take(self, folder: Path) -> None:
        """Lock a folder that is there.

        Raises:
            UserError: another process has locked it.
            OSError: the folder cannot be written to.
        """
        path = folder / ".lock"
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(descriptor)
                if error.errno in (errno.EACCES, errno.EAGAIN):
                    raise UserError(f"{folder} is being trained by another process{holder_of(path)}") from error
                logger.warning("%s cannot be locked (%s): see that no other run uses it", folder, error.strerror)
                return
            if is_file_of(descriptor, path):
                break
            os.close(descriptor)  # of the holder before, which has removed it meanwhile
        os.truncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()} on {platform.node()}".encode())
        self.path, self.descriptor = path, descriptor


def is_file_of(descriptor: int, path: Path) -> bool:
    """Whether an open file still has its name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def holder_of(path: Path) -> str:
    """Number and machine of the process that holds a lock, for a message; empty if it has not said so yet."""
    try:
        return f" ({read_file(path, 1000).decode()})"
    except (OSError, ValueError):
        return ""
