"""Flags of the command line, read into classes of arguments; what is wrong with them in one line.

The one place that knows the private part of tyro, whose own messages are boxes of many lines.
"""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from typing import Any, get_args

import tyro
from tyro import _errors as tyro_errors

from botvision.errors import UserError


def parse(kind: Any, command: str, argv: Sequence[str], **keywords: Any) -> Any:  # noqa: ANN401
    """Read flags into a class of arguments.

    Raises:
        UserError: a flag or value that does not belong.
    """

    def refuse(event: tyro_errors.ParseErrorEvent) -> None:
        raise UserError(explain(event, command, flags_of(kind)))

    with tyro_errors.on_parse_error(refuse):
        return tyro.cli(kind, prog=f"botvision {command}", args=list(argv), **keywords)


def flags_of(kind: Any) -> list[str]:  # noqa: ANN401
    """The flags of a class of arguments, and of its sections."""
    kind = get_args(kind)[0] if get_args(kind) else kind
    flags: list[str] = []
    for entry in fields(kind):
        flags += flags_of(entry.type) if is_dataclass(entry.type) else [f"--{entry.name.replace('_', '-')}"]
    return flags


def explain(event: tyro_errors.ParseErrorEvent, command: str, flags: list[str]) -> str:
    """One line for what is wrong with the flags."""
    see = f"; botvision {command} --help lists the options"
    if isinstance(event, tyro_errors.UnrecognizedArgs):
        word = event.tokens[0]
        # Without the dashes, which all have in common and would make any two look alike.
        close = get_close_matches(word.lstrip("-"), [flag.lstrip("-") for flag in flags], n=3)
        return f"unknown option {word}" + (f"; did you mean --{' or --'.join(close)}?" if close else see)
    if isinstance(event, tyro_errors.MissingArgs):
        return f"missing {', '.join(missing.arg.display_name() for missing in event.missing_arguments)}{see}"
    if isinstance(event, tyro_errors.InvalidChoice):
        choices = sorted(set(event.choices) - {"None"})  # which is the same as leaving the flag out
        return f"{event.argument.display_name()} is {event.value!r}, it must be one of {', '.join(choices)}"
    if isinstance(event, tyro_errors.BadValue):
        return f"{event.argument.display_name()}: {event.reason.replace('_', ' ')}"
    if isinstance(event, tyro_errors.InstantiationFailure):
        what = event.message.splitlines()[0]  # without an argument it is a class of ours that refused, and names it
        return f"{event.argument.display_name()}: {what}" if event.argument else what
    return f"these options do not go together{see}"
