"""What is fetched from URLs, and what is not."""

import io
import socket
from http.server import SimpleHTTPRequestHandler

import pytest

from botvision.data.remote import copy_url, local_or_url
from botvision.errors import UserError


def fetched(url: str, size: int | None = None) -> bytes:
    target = io.BytesIO(b"what was there before")
    copy_url(url, target, size)
    return target.getvalue()


def message_of(url: str, size: int | None = None) -> str:
    with pytest.raises(UserError) as caught:
        fetched(url, size)
    assert str(caught.value).startswith(url.replace("\t", r"\t") + ": ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def redirecting(target: str) -> type[SimpleHTTPRequestHandler]:
    class Redirects(SimpleHTTPRequestHandler):
        def do_GET(self):
            self.send_response(302)
            self.send_header("Location", target)
            self.end_headers()

    return Redirects


@pytest.fixture
def secret(tmp_path):
    """A file that no server may make us read."""
    path = tmp_path / "secret"
    path.write_text("secret")
    return path


def test_a_file_is_copied_whole(tmp_path, serve):
    content = bytes(range(256)) * 5000
    (tmp_path / "a b").write_bytes(content)
    url, _ = serve(tmp_path)
    assert fetched(f"{url}/a%20b", len(content)) == content


def test_a_redirect_to_another_server_is_followed(tmp_path, serve):
    (tmp_path / "a").write_text("found")
    url, _ = serve(tmp_path)
    first, _ = serve(tmp_path, redirecting(f"{url}/a"))
    assert fetched(f"{first}/a") == b"found"


@pytest.mark.parametrize("scheme", ["file", "ftp", "pipe", "data"])
def test_a_redirect_to_another_scheme_is_refused(tmp_path, serve, secret, scheme, monkeypatch):
    monkeypatch.setenv("ftp_proxy", serve(tmp_path)[0])  # by which urllib would fetch ftp: URLs over HTTP
    target = {"file": secret.as_uri(), "ftp": f"ftp://127.0.0.1/{secret.name}"}.get(scheme, f"{scheme}:,secret")
    url, asked = serve(tmp_path, redirecting(target))
    assert scheme in message_of(f"{url}/a")
    assert asked == ["/a"]


@pytest.mark.parametrize("url", ["pipe:cat secret", "pipe://cat secret", "ftp://127.0.0.1/a", "data:,secret", "secret"])
def test_other_schemes_are_refused(url):
    assert "http" in message_of(url)


def test_files_are_not_urls(secret):
    assert "http" in message_of(secret.as_uri())
    assert local_or_url(secret.as_uri()) == local_or_url(str(secret)) == str(secret)
    assert local_or_url("HTTPS://host/a") == "HTTPS://host/a"
    with pytest.raises(UserError, match="gs://bucket"):
        local_or_url("gs://bucket")


def test_an_error_that_may_pass_is_tried_again(tmp_path, serve):
    (tmp_path / "a").write_text("found")
    failures = [lambda handler: handler.send_error(503), lambda handler: handler.connection.close()]

    class FailsTwice(SimpleHTTPRequestHandler):
        def do_GET(self):
            if failures:
                failures.pop()(self)
            else:
                super().do_GET()

    url, asked = serve(tmp_path, FailsTwice)
    assert fetched(f"{url}/a") == b"found"
    assert asked == ["/a"] * 3


def test_a_missing_file_is_asked_for_once(tmp_path, serve):
    url, asked = serve(tmp_path)
    assert "404" in message_of(f"{url}/missing")
    assert asked == ["/missing"]


def test_an_answer_of_another_size_is_refused(tmp_path, serve):
    (tmp_path / "a").write_text("found")
    url, _ = serve(tmp_path)
    message = message_of(f"{url}/a", 7)
    assert "5" in message
    assert "7" in message


def test_a_server_that_does_not_answer_is_given_up(tmp_path, serve, monkeypatch):
    serve(tmp_path)  # makes the attempts follow at once
    monkeypatch.setattr("botvision.data.remote.TIMEOUT_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "timed out" in message_of(f"http://127.0.0.1:{silent.getsockname()[1]}/a")


def test_a_server_that_is_not_there_is_named(tmp_path, serve):
    serve(tmp_path)
    with socket.socket() as taken:  # a port that nobody listens at
        taken.bind(("127.0.0.1", 0))
        assert "refused" in message_of(f"http://127.0.0.1:{taken.getsockname()[1]}/a")


@pytest.mark.parametrize("url", ["http://[::1/a", "http://127.0.0.1:port/a", "http://", "http://127.0.0.1/a b\tc"])
def test_what_is_no_url_is_named(url):
    message_of(url)
