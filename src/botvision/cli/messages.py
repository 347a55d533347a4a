"""What a user reads about an error: one line that names the flag, what is wrong, and what would be right."""

import re
from difflib import get_close_matches
from typing import Literal, get_args, get_origin

import cyclopts
import pydantic

from botvision.cli.fields import flag_of
from botvision.configuration import FieldError, field_error
from botvision.errors import UserError, nearest

FIELD_NAME = re.compile(r"(?<![\w./'\"-])[a-z]+(?:_[a-z]+)+(?![\w./'\"-])")
"""The name of a field inside a sentence, such as batch_size; no part of a file name and no quoted value."""


def message_of(error: Exception) -> str | None:
    """One line for an error that the user can fix, None for any other error."""
    if isinstance(error, cyclopts.CycloptsError):
        text = message_of_flags(error)
    elif isinstance(error, FieldError):
        problem = FIELD_NAME.sub(lambda name: flag_of(name[0]), error.problem)
        text = f"{flag_of(error.path[-1])}: {problem}" if error.path else problem
    elif isinstance(error, UserError | OSError):  # the system's own errors name the file and what is wrong
        text = str(error)
    elif isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker"):  # so PyTorch says it
        text = (
            "a process that reads images was killed, most likely because memory or /dev/shm was full; "
            "lower --workers, --images-per-device or --batch-size"
        )
    else:
        return None
    return " ".join(text.split())


def message_of_flags(error: cyclopts.CycloptsError) -> str:
    """What is wrong with the flags of a command."""
    unused = (error.unused_tokens or [""])[0]
    cause = error.__cause__
    match error:
        case cyclopts.UnknownOptionError():
            return unknown_option(error)
        case cyclopts.UnknownCommandError() if error.app:
            return f"unknown command {unused!r}{nearest(unused, [name for name in error.app if name[0] != '-'])}"
        case cyclopts.UnusedCliTokensError():
            return f"unknown option {unused}; see --help"
        case cyclopts.MissingArgumentError() if error.argument:
            return missing(error, error.argument)
        case cyclopts.CoercionError() if error.token and error.target_type:
            name = error.token.keyword or (error.argument.name if error.argument else "")
            return f"{name}: should be {kind(error.target_type)}, got {error.token.value!r}"
        case cyclopts.ValidationError() if error.argument and isinstance(cause, pydantic.ValidationError):
            return f"{error.argument.name}: {field_error(cause).problem}"
    return str(error)


def kind(wanted: type) -> str:
    """What a flag takes, in words."""
    if get_origin(wanted) is Literal:
        return f"one of {', '.join(map(str, get_args(wanted)))}"
    return {int: "a whole number", float: "a number"}.get(wanted, wanted.__name__)


def unknown_option(error: cyclopts.UnknownOptionError) -> str:
    """The option that the command does not have, and the names that look most like it."""
    word = error.token.keyword or error.token.value
    known = [name.lstrip("-") for argument in error.argument_collection or [] for name in argument.names]
    # Without the dashes, which all have in common and which would make any two look alike.
    close = get_close_matches(word.lstrip("-"), known, n=3)
    return f"unknown option {word}; " + (f"did you mean --{' or --'.join(close)}?" if close else "see --help")


def missing(error: cyclopts.MissingArgumentError, argument: cyclopts.Argument) -> str:
    """A required argument that was not given, or a flag with too few values."""
    flag, wanted, got = error.keyword or argument.name, argument.token_count()[0], len(error.tokens_so_far)
    if error.keyword or argument.tokens:
        return f"{flag}: takes {wanted} value{'s' if wanted > 1 else ''}, got {got % wanted if wanted else got}"
    return f"{flag} is missing; see --help"
