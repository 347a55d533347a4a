"""What a user reads about an error: one line that names the flag, what is wrong, and what would be right."""

from difflib import get_close_matches

import cyclopts
import pydantic

from botvision.cli.fields import flag_of
from botvision.configuration import FieldError, field_error
from botvision.errors import UserError, nearest


def message_of(error: Exception) -> str | None:
    """One line for an error that the user can fix, None for any other error."""
    if isinstance(error, cyclopts.CycloptsError):
        text = message_of_flags(error)
    elif isinstance(error, FieldError) and error.path:
        text = f"{flag_of(error.path[-1])}: {error.problem}"
    elif isinstance(error, UserError | OSError):  # the system's own errors name the file and what is wrong
        text = str(error)
    else:
        return None
    return " ".join(text.split())


def message_of_flags(error: cyclopts.CycloptsError) -> str:
    """What is wrong with the flags of a command."""
    if isinstance(error, cyclopts.UnknownOptionError):
        return unknown_option(error)
    if isinstance(error, cyclopts.UnusedCliTokensError):
        return f"unknown option {(error.unused_tokens or [''])[0]}; --help lists the options"
    if isinstance(error, cyclopts.UnknownCommandError) and error.app:
        known = [name for name in error.app if not name.startswith("-")]
        word = (error.unused_tokens or [""])[0]
        return f"unknown command {word!r}{nearest(word, known)}"
    cause = error.__cause__
    if isinstance(error, cyclopts.ValidationError) and isinstance(cause, pydantic.ValidationError) and error.argument:
        return f"{error.argument.name}: {field_error(cause).problem}"
    return str(error)


def unknown_option(error: cyclopts.UnknownOptionError) -> str:
    """The option that no command has, and the names that look most like it."""
    word = error.token.keyword or error.token.value
    known = [name.lstrip("-") for argument in error.argument_collection or [] for name in argument.names]
    # Without the dashes, which all have in common and which would make any two look alike.
    close = get_close_matches(word.lstrip("-"), known, n=3)
    return f"unknown option {word}; " + (f"did you mean --{' or --'.join(close)}?" if close else "see --help")
