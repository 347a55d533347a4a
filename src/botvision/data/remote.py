"""Files at URLs: the only place that opens one. http and https alone, also after a redirect, and never by a shell."""

import time
from email.message import Message
from http.client import HTTPException, InvalidURL
from typing import IO, BinaryIO
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener, url2pathname

from botvision.errors import UserError

SCHEMES = ("http", "https")
"""What a URL may begin with, beside file, which means a local path."""
TIMEOUT_SECONDS = 60
"""How long to wait for a connection, and for each piece of the answer."""
RETRY_SECONDS = (1, 5)
"""How long to wait before the second and the third attempt, after an error that may pass."""
BLOCK = 2**20
LARGEST_LIST = 2**28
"""Bytes that are read of a file whose size is not known; a list of shards of ImageNet has 2**22."""
TOO_MANY_REQUESTS, SERVER_ERRORS = 429, 500


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


def copy_url(url: str, target: BinaryIO, size: int | None = None) -> None:
    """Copy what a server gives into an open file; up to three attempts where the error may pass.

    Args:
        url: http or https.
        target: can be written and truncated.
        size: expected, in bytes.

    Raises:
        UserError: another scheme, also after a redirect; no answer, or one of another size.
    """
    _check_scheme(url)
    opener = build_opener(_CheckedRedirects)
    for pause in (*RETRY_SECONDS, None):
        target.seek(0)
        target.truncate()
        try:
            with opener.open(url, timeout=TIMEOUT_SECONDS) as answer:
                while (block := answer.read(BLOCK)) and target.tell() <= (size or LARGEST_LIST):
                    target.write(block)
            if target.tell() == size or (size is None and target.tell() <= LARGEST_LIST):
                return
            problem = f"ends early or was changed: {target.tell()} bytes and not {size or 'a list of shards'}"
        except HTTPError as error:
            problem = f"cannot be fetched (the server answers {error.code} {error.reason})"
            if error.code < SERVER_ERRORS and error.code != TOO_MANY_REQUESTS:
                break
        except (ValueError, InvalidURL) as error:  # a refused redirect, or no URL at all
            problem = f"cannot be fetched ({error})"
            break
        except (OSError, HTTPException) as error:
            problem = f"cannot be fetched ({getattr(error, 'reason', error)})"
        if pause is not None:
            time.sleep(pause)
    raise UserError(f"{url}: {problem}")


def _check_scheme(url: str) -> None:
    if url.partition(":")[0].lower() not in SCHEMES:
        raise UserError(f"{url}: is not read; use a path, or a URL with {', '.join(SCHEMES)} or file")


class _CheckedRedirects(HTTPRedirectHandler):
    """Follows a redirect only to a scheme that is allowed in the first place."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> Request | None:
        _check_scheme(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]
