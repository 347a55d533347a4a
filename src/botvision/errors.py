"""Errors that a user can fix, which the command line prints as one line, exit status 2; and the end by a signal."""

import difflib
import re
import reprlib
from collections.abc import Sequence

UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters, ends of lines, and what stands for the bytes of a file name that is not UTF-8."""
SHORT = reprlib.Repr()
SHORT.maxstring = SHORT.maxother = 80


class UserError(ValueError):
    """Something in the user's files, flags or arguments is wrong: the message names it and says what would be right.

    An error raised in a DataLoader worker reaches the main process with the worker's traceback as its text; only
    the last line of it, the message itself, is kept.

    Attributes:
        is_shared: all processes of a run raise it, so that the first one alone prints it.
    """

    is_shared = False

    def __init__(self, message: str) -> None:
        if "Original Traceback" in message:
            message = message.strip().splitlines()[-1].partition(": ")[2]
        super().__init__(printable(message))


class SeveralErrors(UserError):
    """Several things of one kind are wrong, such as the annotation files of images; the message is that of the first.

    Attributes:
        problems: all of them, at least one.
    """

    def __init__(self, problems: Sequence[UserError]) -> None:
        self.problems = list(problems)
        more = f" (the first of {len(problems)} such; botvision data check lists them)" if len(problems) > 1 else ""
        super().__init__(f"{problems[0]}{more}")


class NotFiniteError(UserError):
    """A loss or an answer of a network is infinite or no number: its weights have blown up."""


class StoppedError(BaseException):
    """A signal asked a run to stop while it evaluated, or while it waited for data.

    It is no Exception, because a signal is answered wherever the program is: the code that reads an image takes every
    Exception for a damaged file.
    """


def printable(text: str) -> str:
    """The text with everything escaped that a terminal or a file in UTF-8 cannot take, such as ``\\udcff``."""
    return UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


def short(value: object) -> str:
    """A value for a message: its ``repr``, with the middle left out where it is long."""
    try:
        return printable(SHORT.repr(value))
    except ValueError:  # Python does not write out numbers of thousands of digits
        return "a number of thousands of digits"


def nearest(word: str, known: Sequence[str], listed_by: str | None = None) -> str:
    """The end of an error message: the known words that look most like ``word``, or all of them where none does.

    Args:
        word: that the user gave.
        known: all that could have been given.
        listed_by: the command that lists them, named in their place where they are too many for a message.
    """
    close = difflib.get_close_matches(word, known, n=3, cutoff=0.6)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f"; the command {listed_by} lists them" if listed_by else f"; known: {', '.join(sorted(known))}"


def first_few(words: Sequence[str], most: int) -> str:
    """Some words for a message, separated by commas, and how many more there are."""
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more
