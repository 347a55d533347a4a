"""Errors that a user can fix, and what they cost to import."""

import subprocess
import sys

from botvision.configuration import FieldError
from botvision.errors import UserError, nearest, short


def test_the_nearest_words_are_named_or_all_of_them():
    known = ["botnet50", "botnet101", "resnet50", "senet_s1"]
    assert "botnet50" in nearest("bottnet50", known) and "senet_s1" not in nearest("bottnet50", known)
    assert all(word in nearest("transformer", known) for word in known)


def test_errors_are_there_without_importing_pytorch():
    code = "import sys, botvision.errors, botvision.files, botvision.configuration; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_messages_hold_nothing_that_a_terminal_or_utf_8_cannot_take():
    text = "a\0b\x1b[31m\udcff\ud800 größer"
    for error in (UserError(text), FieldError(("x",), text)):
        assert str(error).endswith(r"a\x00b\x1b[31m\udcff\ud800 größer")
        str(error).encode()


def test_values_in_messages_are_short():
    nested: list = []
    for _ in range(100_000):
        nested = [nested]
    for value in ("x" * 10**6, b"x" * 10**6, list(range(10**6)), nested, 16**10_000, {"a" * 1000: ["b" * 1000] * 1000}):
        assert len(short(value)) < 1000
    assert short("as it is") == "'as it is'"
