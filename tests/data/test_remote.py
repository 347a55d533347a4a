"""What is fetched from URLs, what is tried again, and what is not read."""

import hashlib
import io
import logging
import socket
import sys
import threading
from http.server import SimpleHTTPRequestHandler

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from botvision.data.remote import Patience, copy_url, local_or_url, url_in
from botvision.errors import UserError

AT_ONCE = Patience(pauses=(0, 0))
"""Three attempts."""
IMPATIENT = Patience(timeout=0.2, pauses=(0, 0))


def fetched(url: str, size: int | None = None, patience: Patience = AT_ONCE, **expected) -> bytes:
    target = io.BytesIO(b"what was there before")
    copy_url(url, target, size=size, patience=patience, **expected)
    return target.getvalue()


def message_of(url: str, size: int | None = None, patience: Patience = AT_ONCE, **expected) -> str:
    with pytest.raises(UserError) as caught:
        fetched(url, size, patience, **expected)
    assert str(caught.value).startswith(url.replace("\t", r"\t") + ": ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def redirecting(target: str, body: int = 0) -> type[SimpleHTTPRequestHandler]:
    class Redirects(SimpleHTTPRequestHandler):
        def do_GET(self):
            self.send_response(302)
            self.send_header("Location", target)
            self.send_header("Content-Length", str(body))  # which does not come
            self.end_headers()

    return Redirects


def answering(*answers) -> type[SimpleHTTPRequestHandler]:
    """Gives one answer after the other, each a function of the handler, then what is in the folder."""
    left = list(answers)

    class Answers(SimpleHTTPRequestHandler):
        def do_GET(self):
            if left:
                left.pop(0)(self)
            else:
                super().do_GET()

    return Answers


def busy(handler: SimpleHTTPRequestHandler) -> None:
    handler.send_error(503)


def closed(handler: SimpleHTTPRequestHandler) -> None:
    handler.connection.close()


def sending(content: bytes, promised: int | None) -> callable:
    """Sends some bytes, and promises others."""

    def answer(handler: SimpleHTTPRequestHandler) -> None:
        handler.send_response(200)
        if promised is not None:
            handler.send_header("Content-Length", str(promised))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


@pytest.fixture
def stalled():
    """Answers nothing, or a few bytes and nothing more, until the test ends."""
    over = threading.Event()

    def stalling(content: bytes | None) -> callable:
        def answer(handler: SimpleHTTPRequestHandler) -> None:
            if content is not None:
                sending(content, 100)(handler)
            over.wait(20)

        return answer

    yield stalling
    over.set()


@pytest.fixture
def secret(tmp_path):
    """A file that no server may make us read."""
    path = tmp_path / "secret"
    path.write_text("secret")
    return path


@pytest.fixture
def said(caplog):
    """What was logged for the user."""
    caplog.set_level(logging.INFO, "botvision")
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.fixture
def told(said):
    """Set as soon as something was logged for the user, and `said` gives it."""
    event, handler = threading.Event(), logging.Handler()
    handler.addFilter(logging.Filter("botvision"))
    handler.emit = lambda record: event.set()
    logging.getLogger().addHandler(handler)  # behind caplog's, which has the record by then
    yield event
    logging.getLogger().removeHandler(handler)


def test_a_file_is_copied_whole(tmp_path, serve, said):
    content = bytes(range(256)) * 9000
    (tmp_path / "a b").write_bytes(content)
    url, _ = serve(tmp_path)
    checksum = hashlib.sha256(content).hexdigest()
    assert fetched(url_in(url, "a b"), len(content), sha256=checksum) == content
    assert said() == []


def test_a_redirect_to_another_server_is_followed(tmp_path, serve):
    (tmp_path / "a").write_text("found")
    url, _ = serve(tmp_path)
    first, _ = serve(tmp_path, redirecting(f"{url}/a"))
    assert fetched(f"{first}/a") == b"found"


def test_what_comes_with_a_redirect_is_not_read(tmp_path, serve, said):
    (tmp_path / "a").write_text("found")
    url, _ = serve(tmp_path)
    first, _ = serve(tmp_path, redirecting(f"{url}/a", body=2**40))
    assert fetched(f"{first}/a") == b"found"
    assert said() == []


@pytest.mark.parametrize("scheme", ["file", "ftp", "pipe", "data", "s3"])
def test_a_redirect_to_another_scheme_is_refused(tmp_path, serve, secret, scheme, monkeypatch):
    monkeypatch.setenv("ftp_proxy", serve(tmp_path)[0])  # by which urllib would fetch ftp: URLs over HTTP
    target = {"file": secret.as_uri(), "ftp": f"ftp://127.0.0.1/{secret.name}"}.get(scheme, f"{scheme}:,secret")
    url, asked = serve(tmp_path, redirecting(target))
    assert scheme in message_of(f"{url}/a")
    assert asked == ["/a"]


@pytest.mark.parametrize(
    "url",
    [
        *("pipe:cat secret", "pipe://cat secret", "ftp://127.0.0.1/a", "data:,secret", "secret", "memory://secret"),
        *("local://secret", "simplecache::s3://bucket/secret", "tar://secret::http://127.0.0.1/a", "az://bucket/a"),
    ],
)
def test_other_schemes_are_refused(url):
    assert "http" in message_of(url)


def test_files_are_not_urls(secret):
    assert "http" in message_of(secret.as_uri())
    assert local_or_url(secret.as_uri()) == local_or_url(str(secret)) == str(secret)
    assert local_or_url("HTTPS://host/a") == "HTTPS://host/a"
    assert local_or_url("s3://bucket/a") == "s3://bucket/a"
    with pytest.raises(UserError, match="az://bucket"):
        local_or_url("az://bucket")


@pytest.mark.parametrize(
    "failures",
    [
        (busy, closed),
        (lambda handler: handler.send_error(429),),
        (sending(b"foun", 4),),
        (sending(b"foun", 5),),
        (sending(b"foun", None), sending(b"foond", 5)),
    ],
)
def test_an_error_that_may_pass_is_tried_again_and_told_once(tmp_path, serve, said, failures):
    (tmp_path / "a").write_text("found")
    url, asked = serve(tmp_path, answering(*failures))
    assert fetched(f"{url}/a", 5, sha256=hashlib.sha256(b"found").hexdigest()) == b"found"
    assert asked == ["/a"] * (len(failures) + 1)
    [line] = said()
    assert line.startswith(f"{url}/a: ")
    assert "\n" not in line


def test_attempts_have_an_end_and_pauses_between_them(tmp_path, serve, monkeypatch):
    pauses: list[float] = []
    monkeypatch.setattr("botvision.data.remote.time.sleep", pauses.append)
    url, asked = serve(tmp_path, answering(*[busy] * 9))
    assert "503" in message_of(f"{url}/a", patience=Patience(pauses=(1, 4, 16)))
    assert asked == ["/a"] * 4
    assert pauses == [1, 4, 16]


def test_a_missing_file_is_asked_for_once(tmp_path, serve, said):
    url, asked = serve(tmp_path)
    assert "404" in message_of(f"{url}/missing")
    assert asked == ["/missing"]
    assert said() == []


@pytest.mark.parametrize("promised", [100, None, 5])
def test_no_more_bytes_are_taken_than_expected(tmp_path, serve, promised):
    url, asked = serve(tmp_path, answering(*[sending(b"x" * 100, promised)] * 3))
    if promised == 5:  # what comes after the promised bytes is no part of the answer
        assert fetched(f"{url}/a", 5) == b"xxxxx"
        return
    target = io.BytesIO()
    with pytest.raises(UserError, match="larger than 5 bytes"):
        copy_url(f"{url}/a", target, size=5, patience=AT_ONCE)
    assert len(target.getvalue()) <= 5
    assert asked == ["/a"]


def test_an_answer_that_stays_too_short_or_wrong_is_named(tmp_path, serve):
    (tmp_path / "a").write_text("found")
    url, asked = serve(tmp_path)
    assert "after 5 of 7 bytes" in message_of(f"{url}/a", 7)
    assert "checksum" in message_of(f"{url}/a", 5, sha256="0" * 64)
    assert asked == ["/a"] * 6


def test_a_file_of_unknown_size_that_ends_early_is_tried_again(tmp_path, serve):
    (tmp_path / "a").write_text("found")
    url, asked = serve(tmp_path, answering(sending(b"fou", 5)))
    assert fetched(f"{url}/a") == b"found"
    assert asked == ["/a"] * 2


@pytest.mark.parametrize("content", [None, b"", b"some"])
def test_a_server_that_stalls_is_told_and_asked_again(tmp_path, serve, stalled, said, content):
    (tmp_path / "a").write_text("found")
    url, _ = serve(tmp_path, answering(stalled(content)))
    assert fetched(f"{url}/a", patience=IMPATIENT) == b"found"
    [line] = said()
    assert "timed out" in line


@pytest.mark.parametrize("has_begun", [False, True])
def test_a_server_that_takes_long_to_answer_is_told_once(tmp_path, serve, said, told, has_begun):
    """It answers when the user has been told, and not before."""

    def late(handler: SimpleHTTPRequestHandler) -> None:
        if has_begun:
            sending(b"", 5)(handler)
        assert told.wait(20)
        handler.wfile.write(b"found") if has_begun else sending(b"found", 5)(handler)

    url, _ = serve(tmp_path, answering(late))
    assert fetched(f"{url}/a", patience=Patience(silence=0.05)) == b"found"
    [line] = said()
    assert "no answer" in line and f"{url}/a" in line


def test_a_server_that_sends_a_byte_now_and_then_is_given_up(tmp_path, serve):
    def trickle(handler: SimpleHTTPRequestHandler) -> None:
        sending(b"", 10_000)(handler)
        over = threading.Event()
        for _ in range(100):
            try:
                handler.wfile.write(b"x")
            except OSError:
                return
            over.wait(0.02)

    url, _ = serve(tmp_path, answering(trickle))
    assert "too slow" in message_of(f"{url}/a", patience=Patience(timeout=0.1, pauses=()))


def test_a_server_that_never_answers_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/a"
        assert "timed out" in message_of(url, patience=Patience(timeout=0.05, pauses=(0,)))


def test_a_server_that_is_not_there_is_named():
    with socket.socket() as taken:  # a port that nobody listens at
        taken.bind(("127.0.0.1", 0))
        assert "refused" in message_of(f"http://127.0.0.1:{taken.getsockname()[1]}/a")


def test_a_full_disk_is_no_error_of_the_server(tmp_path, serve):
    class Full(io.BytesIO):
        def write(self, _):
            raise OSError(28, "No space left on device")

    (tmp_path / "a").write_text("found")
    url, asked = serve(tmp_path)
    with pytest.raises(OSError, match="No space left"):
        copy_url(f"{url}/a", Full(), patience=AT_ONCE)
    assert asked == ["/a"]


@pytest.mark.parametrize("url", ["http://[::1/a", "http://127.0.0.1:port/a", "http://", "http://127.0.0.1/a b\tc"])
def test_what_is_no_url_is_named(url, said):
    message_of(url)
    assert said() == []


class Store(MemoryFileSystem):
    """fsspec's file system in memory, in the place of the one for S3."""

    protocol = "s3"
    store = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012
    failures: list[Exception] = []  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path):
        return "/" + path.removeprefix("s3://")

    def _open(self, *arguments, **options):
        if self.failures:
            raise self.failures.pop()
        return super()._open(*arguments, **options)


@pytest.fixture
def bucket():
    """Files of a bucket at s3://bucket, as a function that writes one."""
    fsspec.register_implementation("s3", Store, clobber=True)
    store = fsspec.filesystem("s3")
    yield lambda name, content: store.pipe_file(f"s3://bucket/{name}", content)
    Store.store.clear()
    Store.failures.clear()


def test_a_file_is_read_from_an_object_store_by_its_very_name(bucket, said):
    for name in ("a b+[1]*.tar", "a b+1x.tar"):
        bucket(name, name.encode())
        assert fetched(url_in("s3://bucket", name), len(name)) == name.encode()
    assert "cannot be fetched" in message_of("s3://bucket/a*")
    assert said() == []


def test_no_other_file_system_is_reached_through_an_object_store(bucket, secret):
    bucket("a", b"found")
    for url in (f"s3://bucket/a::{secret.as_uri()}", f"s3://bucket/a::file://{secret}", f"s3://{secret}"):
        message_of(url)


def test_an_object_store_is_asked_again_and_sizes_are_checked(bucket, said):
    bucket("a", b"found")
    Store.failures.append(OSError("SlowDown: reduce your request rate"))
    assert fetched("s3://bucket/a", 5) == b"found"
    [line] = said()
    assert line.startswith("s3://bucket/a: ")
    assert "SlowDown" in line
    assert "larger than 4 bytes" in message_of("s3://bucket/a", 4)
    assert "after 5 of 6 bytes" in message_of("s3://bucket/a", 6)
    Store.failures.append(PermissionError("Access Denied"))
    assert "Access Denied" in message_of("s3://bucket/a")
    assert Store.failures == []


def test_the_package_of_an_object_store_is_named_where_it_is_missing(monkeypatch, said):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    assert "pip install 'botvision[gs]'" in message_of("gs://bucket/a")
    assert said() == []
