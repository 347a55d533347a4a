"""Files that are written completely or not at all."""

import errno
import os
import pickle
import re
import stat
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from botvision.errors import UserError, first_few

NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
"""A full disk, a file over the limit of its size, a user's share of the disk used up."""
NAMED = 8
"""Entries of a folder that a message names."""
TEMPORARY = re.compile(r"\..*\.(\d{1,9})\.tmp(\..*)?", re.DOTALL)
"""A name that :func:`whole_file` gives, with the number of its process."""
TERMINAL_CODE = re.compile(r"\x1b\[[\d;]*m")
"""A change of colour."""


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
def whole_file(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Give a temporary name to write to. It is renamed to ``path`` at the end, or removed after an error.

    The folder is created if needed. The temporary name keeps the suffix, which tells writers the format.

    Args:
        path: of the file.
        durable: wait until the file is on the disk, so that it is there after a power failure too.

    Raises:
        UserError: no space is left for the file, or its folder is a file.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"{path.parent} cannot be made, a file has this name; choose another folder") from error
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        with room_for(path):
            yield temporary
            if durable:
                sync(temporary)
            temporary.replace(path)
            if durable:
                sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file is on the disk, or the names in a folder are."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of :func:`whole_file` below a folder whose processes have been killed."""
    for file in folder.rglob(".*.tmp*"):
        found = TEMPORARY.fullmatch(file.name)
        if found and not is_alive(int(found[1])):
            file.unlink(missing_ok=True)


def is_alive(process: int) -> bool:
    """Whether another process of this machine has the number; this process itself has only just been given it."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return process != os.getpid()


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with whole_file(path, durable=True) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_file(path: Path, largest: int) -> bytes:
    """The content of a regular file; a pipe could keep the reader waiting for ever.

    Raises:
        OSError: it cannot be read, is not regular or has more than `largest` bytes.
    """
    about = path.stat()
    if not stat.S_ISREG(about.st_mode) and not stat.S_ISDIR(about.st_mode):  # the system itself refuses a folder
        raise OSError(None, "it is a pipe, a socket or a device", str(path))
    if about.st_size > largest:
        raise OSError(None, f"its {about.st_size} bytes are more than {largest}, the most that are read", str(path))
    return path.read_bytes()


def no_folder(path: Path) -> str:
    """What messages say of a path that should be a folder; YOLO's users are used to name a file in it."""
    return "is a file; give the folder that it is in" if path.is_file() else "no such folder"


def what_is_in(folder: Path) -> str:
    """The first entries of a folder, for a message; hidden ones are left out."""
    names = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in folder.iterdir())
    visible = [name for name in names if not name.startswith(".")]
    return first_few(visible, NAMED) or "nothing"


def why_unreadable(error: Exception) -> str:
    """What is wrong with a file of weights, in one line; PyTorch's own advice is to run the code in it."""
    text = TERMINAL_CODE.sub("", str(error))
    found = re.search(r"\bGLOBAL ([\w.]+)", text)
    if found or "TorchScript" in text:
        what = f"an object of {found[1]}" if found else "a whole network (TorchScript)"
        return (
            f"it holds {what}, whose code is not run here; in the program that made it save the tensors alone: "
            "torch.save(model.state_dict(), FILE)"
        )
    if isinstance(error, pickle.UnpicklingError):
        return "torch.save did not write it, or it is damaged"
    if not text or isinstance(error, LookupError):  # whose text says nothing to a user
        return "it holds no tensors"
    return textwrap.shorten(text.splitlines()[0], 200, placeholder=" ...")
