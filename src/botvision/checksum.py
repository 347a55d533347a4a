"""A checksum inside a checkpoint, by which every byte that is cut off or changed shows.

What ``torch.save`` writes is a zip archive. Its last field, the comment of the archive, takes "sha256:" and the SHA-256
of all bytes before it, as 64 hexadecimal digits. For other programs it is the archive that it was.
"""

import errno
import hashlib
import os
import zipfile
from pathlib import Path
from typing import BinaryIO

MARK = b"sha256:"
SEAL = len(MARK) + 2 * hashlib.sha256().digest_size
"""Bytes of the comment."""
FIRST, END = b"PK\x03\x04", b"PK\x05\x06"
"""Signatures at the begin of a zip archive, and of its last record, of 22 bytes without a comment."""
END_SIZE = 22
CHUNK = 2**22


def add_checksum(path: Path) -> None:
    """Write the checksum into a file that ``torch.save`` has written.

    Raises:
        ValueError: it is no zip archive, or has a comment already.
    """
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        if not ends_without_comment(file, size):
            raise ValueError(f"{path} is no zip archive without a comment")
        file.seek(size - 2)
        file.write(SEAL.to_bytes(2, "little"))  # the length of the comment
        digest = digest_of(file, size)
        file.seek(size)
        file.write(MARK + digest)


def checksum_of(path: Path) -> str:
    """The SHA-256 by which a checkpoint is told from others: the one in it, or else that of the whole file.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - SEAL))
        seal = file.read()
        if seal.startswith(MARK):
            return seal.removeprefix(MARK).decode()
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()


def damage_of(path: Path) -> str | None:
    """What shows that a checkpoint is damaged; None where nothing does.

    Archives without our checksum, as earlier versions wrote them, are judged by their own, which do not cover every
    byte. Files that are no zip archives are not judged.

    Raises:
        OSError: it cannot be opened or read, for another reason than that the disk has lost its content.
    """
    try:
        with path.open("rb") as file:
            return damage_in(file)
    except OSError as error:
        if error.errno == errno.EIO:
            return f"the disk cannot read it ({error.strerror})"
        raise OSError(error.errno, error.strerror, str(path)) from error  # an error of reading names no file


def damage_in(file: BinaryIO) -> str | None:
    """:func:`damage_of` for an open file."""
    if file.read(len(FIRST)) != FIRST:
        return None
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - SEAL))
    seal = file.read()
    if seal.startswith(MARK):
        return None if digest_of(file, size - SEAL) == seal[len(MARK) :] else "its SHA-256 is another one"
    if not ends_without_comment(file, size):
        return "its end is missing or damaged"
    return damage_of_parts(file, size)


def damage_of_parts(file: BinaryIO, size: int) -> str | None:
    """What shows by the checksums that an archive has for each of its parts; torch.save does not compress them."""
    try:
        archive = zipfile.ZipFile(file)
        if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
            return None
        if sum(part.file_size for part in archive.infolist()) > size:
            return "its parts overlap"
        bad = archive.testzip()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError):
        return "its archive is damaged"
    return f"its part {bad} has another checksum" if bad else None


def ends_without_comment(file: BinaryIO, size: int) -> bool:
    """Whether a file ends as a zip archive does that has no comment."""
    file.seek(max(0, size - END_SIZE))
    end = file.read(END_SIZE)
    return end.startswith(END) and end.endswith(b"\0\0")


def digest_of(file: BinaryIO, size: int) -> bytes:
    """The SHA-256 of the first bytes of a file, as hexadecimal digits."""
    file.seek(0)
    digest = hashlib.sha256()
    while size:
        chunk = file.read(min(CHUNK, size))
        if not chunk:
            break
        digest.update(chunk)
        size -= len(chunk)
    return digest.hexdigest().encode()
