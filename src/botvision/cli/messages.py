"""What a user reads about an error: one line that names the flag, what is wrong, and what would be right."""

import re

import cyclopts
import pydantic

from botvision.cli.fields import flag_of
from botvision.cli.suggestions import AS_FLAGS, assignments, suggestion
from botvision.configuration import FieldError, field_error
from botvision.errors import UserError

NO_MEMORY = re.compile(r"can't allocate memory|out of memory")
"""As PyTorch says it of a processor's and of a GPU's."""

LOST_PROCESS = re.compile(r"gloo/transport|Connection (closed|reset) by peer|ncclRemoteError")
"""As gloo and NCCL say that another process of the run is gone."""

NUMBERS: dict[type, str] = {int: "a whole number", float: "a number"}


def message_of(error: Exception) -> str | None:
    """One line for an error that the user can fix, None for any other error."""
    if isinstance(error, cyclopts.CycloptsError):
        text = message_of_flags(error)
    elif isinstance(error, FieldError):
        text = message_of_field(error)
    elif isinstance(error, UserError | OSError):  # the system's own errors name the file and what is wrong
        text = str(error)
    elif isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and NO_MEMORY.search(str(error))):
        text = "the memory is too small for this; choose a smaller model, smaller images, or fewer of them at once"
    elif is_lost_process(error):
        text = "another process of the run has ended; the same command goes on from the last checkpoint"
    elif isinstance(error, ValueError) and str(error).startswith("Expected more than 1 value per channel"):
        text = "--images-per-device: batch norm needs several values of a channel; take larger images, or two at once"
    elif isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker"):  # so PyTorch says it
        text = (
            "a process that reads images was killed, most likely because memory or /dev/shm was full; "
            "lower --workers, --images-per-device or --batch-size"
        )
    else:
        return None
    return " ".join(text.split())


def message_of_field(error: FieldError) -> str:
    """What is wrong with a field, with the fields that it names as flags; what the user gave stays as it is."""
    problem = error.problem
    for name in error.others:
        problem = re.sub(rf"\b{name}\b", flag_of(name), problem, count=1)  # a value of the same letters comes later
    return f"{flag_of(error.path[-1])}: {problem}" if error.path else problem


def is_lost_process(error: Exception) -> bool:
    """Whether another process of the run, or its machine, is gone."""
    return isinstance(error, RuntimeError) and LOST_PROCESS.search(str(error)) is not None


def message_of_flags(error: cyclopts.CycloptsError) -> str:
    """What is wrong with the flags of a command; cyclopts' own words serve for what is left."""
    match error, error.__cause__:
        case cyclopts.UnknownOptionError(token=token, argument_collection=known), _:
            option = (token.keyword or token.value).partition("=")[0]
            names = [name for argument in known if argument.parse for name in argument.names]
            return f"unknown option {option}; {suggestion(option, names)}"
        case cyclopts.UnusedCliTokensError() | cyclopts.MissingArgumentError(), _ if found := assignments(
            error.root_input_tokens or []
        ):
            return f"{AS_FLAGS}; got {', '.join(map(repr, found))}; see --help"
        case cyclopts.UnusedCliTokensError(), _:
            return f"unexpected {', '.join(map(repr, error.unused_tokens or []))}; see --help"
        case cyclopts.MissingArgumentError(argument=wanted, unused_tokens=None | []), _ if wanted and not wanted.tokens:
            return f"{wanted.name} is missing; see --help"
        case cyclopts.CoercionError(), _ if error.token and error.argument and error.target_type in NUMBERS:
            return f"{error.argument.name}: should be {NUMBERS[error.target_type]}, got {error.token.value!r}"
        case cyclopts.ValidationError(), pydantic.ValidationError() as cause if error.argument:
            return f"{error.argument.name}: {field_error(cause).problem}"
    return str(error)
