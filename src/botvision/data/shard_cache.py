"""Shards that were fetched from URLs, kept on this machine: for one user, checked, and no more than a limit.

The processes of a user share them, those of other runs too. No other user can enter the folder, and what is a link or
belongs to somebody else is not used. A shard appears under its name when it is complete.
"""

import hashlib
import logging
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock

from botvision.data.remote import PATIENT, Patience, copy_url
from botvision.errors import UserError, short
from botvision.files import whole_file
from botvision.process_log import process_log

logger = logging.getLogger("botvision")

LIMIT_SETTING = "BOTVISION_CACHE_GB"
"""The environment variable that limits the size of all shards together, in GB (10**9 bytes)."""
LIMIT = "200"
"""Its default, which ImageNet's 150 GB fit."""
CHECKED = 0
"""The time of change of a shard whose checksum was found right; who writes to it later sets another."""
ABANDONED = 3600
"""Seconds after which a file that is not yet complete counts as left by a process that was killed."""


def cache_folder() -> Path:
    """Where shards are kept: botvision/shards in XDG_CACHE_HOME, ~/.cache by default.

    Where that folder is another user's, such as /tmp, it is botvision-<number of the user>/shards.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    shared = home.exists() and home.stat().st_uid != os.getuid()
    return home / (f"botvision-{os.getuid()}" if shared else "botvision") / "shards"


def cache_limit() -> int:
    """Bytes that all shards may have together.

    Raises:
        UserError: the environment variable is no number above 0.
    """
    text = os.environ.get(LIMIT_SETTING) or LIMIT
    try:
        limit = int(float(text) * 1e9)
    except (ValueError, OverflowError):
        limit = 0
    if limit <= 0:
        raise UserError(f"{LIMIT_SETTING}: should be a number of GB, got {short(text)}")
    return limit


def folder_for(source: str, content: str, sizes: list[int]) -> Path:
    """Make the folder for the shards of a data set, and room in the cache where its limit is lower than before.

    Args:
        source: their URL.
        content: their list; a data set that replaces another at the same URL has another one, and so another folder.
        sizes: of the shards, in bytes.

    Raises:
        UserError: one shard alone is larger than the limit, or the folder is not the user's own.
    """
    limit, total = cache_limit(), sum(sizes)
    if max(sizes, default=0) > limit:
        raise UserError(f"{LIMIT_SETTING}: should be at least {max(sizes) / 1e9:.3g}, the GB of a shard of {source}")
    if total > limit:
        logger.warning(
            "%s: has %.3g GB, more than the %.3g GB that are kept (%s); what was removed is fetched again",
            *(source, total / 1e9, limit / 1e9, LIMIT_SETTING),
        )
    folder = cache_folder() / hashlib.sha256(f"{source}\n{content}".encode()).hexdigest()[:20]
    _own(folder)
    make_room(cache_folder(), 0)
    return folder


def fetch(url: str, target: Path, size: int, sha256: str | None = None, patience: Patience = PATIENT) -> BinaryIO:
    """Open a shard, which is fetched unless it is there and whole; one process does, the others wait for it.

    The shard stays readable where another process removes it from the folder to make room.

    Args:
        url: of the shard.
        target: a file in a folder of `folder_for`.
        size: in bytes.
        sha256: in hexadecimal digits; where it is None, the size alone is checked.
        patience: see `copy_url`.

    Raises:
        UserError: it cannot be fetched, does not have this size and checksum, or the folder is not the user's own.
    """
    _own(target.parent)
    with FileLock(f"{target}.lock"):
        with suppress(FileNotFoundError):  # another process may remove it at any moment, to make room
            if _is_whole(target, size, sha256):
                os.utime(target, ns=(time.time_ns(), target.stat().st_mtime_ns))  # so that it is not the next one to go
                return target.open("rb")
        make_room(target.parents[1], size)
        with whole_file(target) as temporary:
            with temporary.open("wb") as file:
                copy_url(url, file, size=size, sha256=sha256, patience=patience)
                file.flush()
                os.fsync(file.fileno())
            fetched = temporary.open("rb")
        if sha256 is not None:  # not earlier: a temporary file of that time would count as abandoned
            os.utime(fetched.fileno(), ns=(time.time_ns(), CHECKED))
        make_room(target.parents[1], 0)  # others may have fetched something meanwhile
        return fetched


def _own(folder: Path) -> None:
    """Make the folder of a data set, and the two above it, such that nobody else can enter them."""
    for place in (folder.parents[1], folder.parent, folder):
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.mkdir(mode=0o700, exist_ok=True)
            about = place.lstat()
            if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid():
                raise FileExistsError(None, "it is a link, or another user's")
            if stat.S_IMODE(about.st_mode) != 0o700:
                place.chmod(0o700)
        except OSError as error:
            raise UserError(
                f"{place}: cannot hold shards ({error.strerror}); remove it, or set XDG_CACHE_HOME to a folder of "
                "your own"
            ) from error


def _is_whole(path: Path, size: int, sha256: str | None) -> bool:
    """Whether a shard is there, the user's own, and as it should be; says so where it is damaged."""
    try:
        about = path.lstat()
    except FileNotFoundError:
        return False
    whole = stat.S_ISREG(about.st_mode) and about.st_uid == os.getuid() and about.st_size == size
    if whole and sha256 is not None and about.st_mtime_ns != CHECKED:
        with path.open("rb") as file:
            whole = hashlib.file_digest(file, "sha256").hexdigest() == sha256
        if whole:
            os.utime(path, ns=(about.st_atime_ns, CHECKED))
    if not whole:
        process_log.warning("%s: is damaged, and is fetched again", path)
    return whole


def make_room(folder: Path, size: int) -> None:
    """Remove the shards that were opened the longest time ago, until more bytes fit the limit and the disk.

    Args:
        folder: `cache_folder`.
        size: bytes that are about to come.
    """
    with FileLock(folder / "room.lock"):
        limit, free = cache_limit(), shutil.disk_usage(folder).free
        files = sorted(_files(folder))
        total = sum(length for _, length, _ in files)
        for _, length, path in files:
            if total + size <= limit and size <= free:
                break
            path.unlink(missing_ok=True)
            total, free = total - length, free + length


def _files(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """The shards of all data sets: when they were opened last, their sizes in bytes, and their paths."""
    for path in folder.glob("*/*"):
        try:
            about = path.lstat()
        except FileNotFoundError:  # another process completed it
            continue
        if path.name.startswith("."):  # not complete; another process may still be writing it
            if time.time() - about.st_mtime > ABANDONED:
                path.unlink(missing_ok=True)
        elif path.suffix == ".tar":
            yield about.st_atime, about.st_size, path
