"""The one kind of error that a user can fix; the command line prints it as a single line, exit status 2."""

import difflib
from collections.abc import Sequence


class UserError(ValueError):
    """Something in the user's files, flags or arguments is wrong: the message names it and says what would be right.

    An error raised in a DataLoader worker reaches the main process with the worker's traceback as its text; only
    the last line of it, the message itself, is kept.
    """

    def __init__(self, message: str) -> None:
        if "Original Traceback" in message:
            message = message.strip().splitlines()[-1].partition(": ")[2]
        super().__init__(message)


class NotFiniteError(UserError):
    """A loss or an answer of a network is infinite or no number: its weights have blown up."""


def nearest(word: str, known: Sequence[str]) -> str:
    """The end of an error message: the known words that look most like ``word``, or all of them where none does."""
    close = difflib.get_close_matches(word, known, n=3, cutoff=0.6) or sorted(known)
    return f"; did you mean {' or '.join(close)}?" if len(close) <= 3 else f"; known: {', '.join(close)}"


def first_few(words: Sequence[str], most: int) -> str:
    """Some words for a message, separated by commas, and how many more there are."""
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more
