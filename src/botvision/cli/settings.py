"""What every app of the command line has in common. Nothing here imports PyTorch or pydantic."""

from typing import Any

from cyclopts import Parameter


def shown_default(value: object) -> str:
    """A default value as the user would type it."""
    if isinstance(value, tuple):
        return " ".join(map(shown_default, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


APP_SETTINGS: dict[str, Any] = {
    # Errors are raised, and app.py alone prints them.
    "print_error": False,
    "exit_on_error": False,
    "suppress_keyboard_interrupt": False,
    "help_format": "plaintext",
    "result_action": "return_value",
    # A tuple takes several values after one flag: --jitter 0.5 2.0. Of a flag given twice the last value counts.
    "default_parameter": Parameter(consume_multiple=True, negative_iterable=(), allow_repeating=True),
}
