"""What every app of the command line has in common. Nothing here imports PyTorch or pydantic."""

from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from cyclopts import App, ArgumentCollection, CoercionError, Parameter


def shown_default(value: object) -> str:
    """A default value as the user would type it."""
    if isinstance(value, tuple):
        return " ".join(map(shown_default, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def refuse_fractions(app: App, command: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Refuse fractions where whole numbers are wanted; cyclopts, which calls this before it converts, rounds them.

    Raises:
        CoercionError: naming the flag and the fraction.
    """
    for argument in arguments:
        for token in argument.tokens if holds_whole_numbers(argument.hint) else ():
            if "." in token.value:
                raise CoercionError(argument=argument, token=token, target_type=int)


def holds_whole_numbers(hint: Any) -> bool:  # noqa: ANN401 (any type hint)
    """Whether a type is int, tuples of int, or these and None."""
    if get_origin(hint) is Annotated:
        return holds_whole_numbers(get_args(hint)[0])
    inner = [part for part in get_args(hint) if part not in (type(None), Ellipsis)]
    has_parts = get_origin(hint) in (tuple, Union, UnionType)
    return hint is int or (has_parts and bool(inner) and all(map(holds_whole_numbers, inner)))


APP_SETTINGS: dict[str, Any] = {
    # Errors are raised, and app.py alone prints them.
    "print_error": False,
    "exit_on_error": False,
    "suppress_keyboard_interrupt": False,
    "help_format": "plaintext",
    "result_action": "return_value",
    "config": refuse_fractions,
    # A tuple takes several values after one flag: --jitter 0.5 2.0. Of a flag given twice the last value counts.
    "default_parameter": Parameter(consume_multiple=True, negative_iterable=(), allow_repeating=True),
}
