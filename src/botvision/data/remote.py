"""Files at URLs: the only place that opens one. Some schemes alone, also after a redirect, and never by a shell."""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from http.client import InvalidURL
from socket import EAI_NONAME, gaierror
from threading import Timer
from typing import IO, Any, BinaryIO
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener, url2pathname

import fsspec

from botvision.errors import UserError
from botvision.process_log import process_log

OBJECT_STORES = {"s3": "s3fs", "gs": "gcsfs"}
"""Schemes of object stores, with the optional package that reads each."""
SCHEMES = ("http", "https", *OBJECT_STORES)
"""What a URL may begin with, beside file, which means a local path."""
BLOCK = 2**20
STORE_BLOCK = 2**24
"""Bytes that are asked of an object store at once."""
LEAST_RATE = 1000
"""Bytes a second: an answer that comes more slowly, longer than the time-out, counts as none."""
LARGEST_LIST = 2**28
"""Bytes that are read of a file whose size is not known; a list of shards of ImageNet has 2**22."""
BUSY, SERVER_ERRORS = (408, 429), 500
"""Status codes of errors that may pass."""


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for, in seconds."""

    timeout: float = 30
    """For a connection, and for each piece of the answer."""
    pauses: tuple[float, ...] = (1, 4, 16, 60)
    """Before the second attempt and every other, after an error that may pass; then it is given up."""
    silence: float = 5
    """Until the first bytes; then the user is told that there are none yet."""


PATIENT = Patience()


class _Problem(Exception):
    """Why a file could not be fetched, and whether another attempt may succeed."""

    def __init__(self, text: object, *, may_pass: bool) -> None:
        super().__init__(" ".join(str(text).split()))
        self.may_pass = may_pass


def is_url(place: str) -> bool:
    """Whether a text is a URL and not a path."""
    return "://" in place


def local_or_url(place: str) -> str:
    """A path or a URL of an allowed scheme as it is; the path of a file: URL.

    Raises:
        UserError: a URL of another scheme.
    """
    if place.lower().startswith("file://"):
        return url2pathname(urlsplit(place).path)
    if is_url(place):
        _check_scheme(place)
    return place


def url_in(folder: str, name: str) -> str:
    """The URL of a file in a folder at a URL; object stores take names as they are."""
    return f"{folder}/{name if _scheme(folder) in OBJECT_STORES else quote(name)}"


def copy_url(
    url: str, target: BinaryIO, *, size: int | None = None, sha256: str | None = None, patience: Patience = PATIENT
) -> None:
    """Copy what a server gives into an open file. An error that may pass is tried again, and the first one is logged.

    Args:
        url: of one of `SCHEMES`.
        target: can be written and truncated.
        size: expected, in bytes; no more is written.
        sha256: the expected checksum, in hexadecimal digits.
        patience: time-out and pauses.

    Raises:
        UserError: another scheme, also after a redirect; no answer, or one of another size or checksum.
        OSError: the file cannot be written.
    """
    _check_scheme(url)
    for attempt, pause in enumerate((*patience.pauses, 0)):
        try:
            with _told_when_silent(url, patience, attempt) as answered:
                _copy_once(url, target, size, sha256, patience.timeout, answered)
            return
        except _Problem as problem:
            left = len(patience.pauses) - attempt
            if not left or not problem.may_pass:
                raise UserError(f"{url}: {problem}") from problem
            if not attempt:
                process_log.warning("%s: %s; trying again, at most %d times", url, problem, left)
        time.sleep(pause)


@contextmanager
def _told_when_silent(url: str, patience: Patience, attempt: int) -> Iterator[Callable[[], None]]:
    """Logs in the first attempt that a server does not answer; gives the function to call when it does.

    Google's library tries again by itself for half a minute before an error of it is seen here.
    """
    timer = Timer(
        patience.silence, process_log.warning, ("%s: no answer after %g s; still waiting", url, patience.silence)
    )
    timer.daemon = True
    if not attempt:
        timer.start()
    try:
        yield timer.cancel
    finally:
        timer.cancel()


def _copy_once(
    url: str,
    target: BinaryIO,
    size: int | None,
    sha256: str | None,
    timeout: float,
    answered: Callable[[], None],
) -> None:
    target.seek(0)
    target.truncate()
    found = hashlib.sha256()
    for piece in _pieces(url, size, timeout):
        answered()
        target.write(piece)
        found.update(piece)
    if sha256 is not None and found.hexdigest() != sha256:
        raise _Problem("does not have the checksum that the list of shards gives", may_pass=True)


def _pieces(url: str, size: int | None, timeout: float) -> Iterator[bytes]:
    """What a server gives, piece by piece; errors of the network become problems, those of the caller do not."""
    most = LARGEST_LIST if size is None else size
    with _problems(), _opened(url, timeout) as (read, promised):
        started, total = time.monotonic(), 0
        while total <= most and (promised or 0) <= most and (piece := read(BLOCK)):
            total += len(piece)
            if total <= most:
                yield piece
            waited = time.monotonic() - started
            if waited > timeout and total < LEAST_RATE * waited:
                raise TimeoutError(f"too slow: {total} bytes in {waited:.0f} seconds")
        if max(total, promised or 0) > most:
            raise _Problem(f"is larger than {most} bytes, which it should have at most", may_pass=False)
        whole = promised if size is None else size
        if whole is not None and total < whole:
            raise _Problem(f"ends early, after {total} of {whole} bytes", may_pass=True)


@contextmanager
def _opened(url: str, timeout: float) -> Iterator[tuple[Callable[[int], bytes], int | None]]:
    """Opens a URL; gives the function that reads some bytes, and the size of the whole where the server says it."""
    scheme = _scheme(url)
    if scheme in OBJECT_STORES:
        with _store(scheme, timeout).open(url, "rb", block_size=STORE_BLOCK) as file:
            yield file.read, file.size
    else:
        with build_opener(_CheckedRedirects).open(url, timeout=timeout) as answer:
            length = answer.headers.get("Content-Length", "")
            yield answer.read1, int(length) if length.isdecimal() else None  # read would wait for a whole block


def _store(scheme: str, timeout: float) -> Any:  # noqa: ANN401
    """The file system of an object store. S3 leaves it to us to try again; Google's library tries for a minute."""
    options: dict[str, dict[str, Any]] = {
        "s3": {"config_kwargs": {"connect_timeout": timeout, "read_timeout": timeout, "retries": {"max_attempts": 0}}},
        "gs": {"requests_timeout": timeout},
    }
    package = OBJECT_STORES[scheme]
    logging.getLogger(package).setLevel(logging.CRITICAL)  # gcsfs logs tracebacks of errors that it also raises
    try:
        store = fsspec.filesystem(scheme, use_listings_cache=False, **options[scheme])
    except ImportError as error:
        raise _Problem(f"needs the package {package}: pip install 'botvision[{scheme}]'", may_pass=False) from error
    store.retries = 1
    return store


@contextmanager
def _problems() -> Iterator[None]:
    """Turns the errors of all libraries that read URLs into problems."""
    try:
        yield
    except _Problem:
        raise
    except HTTPError as error:
        text = f"cannot be fetched (the server answers {error.code} {error.reason})"
        raise _Problem(text, may_pass=error.code in BUSY or error.code >= SERVER_ERRORS) from error
    except Exception as error:  # the libraries of object stores have many kinds
        cause = getattr(error, "reason", None) or error
        reason = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
        text = f"cannot be fetched ({'no such file' if isinstance(cause, FileNotFoundError) else reason})"
        raise _Problem(text, may_pass=not _will_last(cause)) from error


def _will_last(cause: object) -> bool:
    """Whether an error means that the URL is wrong, or that the user may not read it."""
    if isinstance(cause, gaierror):
        return cause.errno == EAI_NONAME
    # A text is urllib's own remark about a URL; ValueError is also a refused redirect, or a certificate that is wrong.
    kinds = (str, ValueError, InvalidURL, FileNotFoundError, PermissionError)
    return isinstance(cause, kinds) or "Credentials" in type(cause).__name__


def _scheme(url: str) -> str:
    return url.partition(":")[0].lower()


def _check_scheme(url: str) -> None:
    if _scheme(url) not in SCHEMES:
        raise UserError(f"{url}: is not read; use a path, or a URL with {', '.join(SCHEMES)} or file")


class _CheckedRedirects(HTTPRedirectHandler):
    """Follows a redirect only to http and https, which it also opens."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> Request | None:
        if _scheme(newurl) not in ("http", "https"):
            raise ValueError(f"it redirects to {newurl}, which is not read; http and https are")
        fp.close()  # the base class would read all that comes with the redirect
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]
