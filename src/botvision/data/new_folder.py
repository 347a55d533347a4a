"""Folders that appear when they are complete, with image files that are not copied where that can be avoided."""

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from botvision.configuration import FieldError
from botvision.files import room_for

NO_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP)
"""What systems say where a file cannot have a second name."""


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Gives a folder to fill, which becomes ``folder`` at the end; after an error nothing is left.

    Args:
        folder: must not exist, or be empty.

    Raises:
        FieldError: it holds something.
        UserError: no space is left.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FieldError(("out",), f"{folder} holds something; choose another folder")
    part = folder.parent / f".{folder.name}-{uuid.uuid4().hex}"
    try:
        with room_for(folder):
            yield part
            part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where it cannot have one; what is copied of a link is the file itself."""
    target.parent.mkdir(parents=True, exist_ok=True)
    real = Path(os.path.realpath(source))
    try:
        target.hardlink_to(real)
    except OSError as error:
        if error.errno not in NO_LINK:
            raise
        shutil.copyfile(real, target)
