"""The commands: a class of arguments and a short function for each.

Results go to standard output, progress and messages to standard error.
"""

from collections.abc import Callable, Sequence
from importlib import import_module

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""

COMMANDS = {
    "demo": "demo",
    "models": "models",
    "train": "train",
    "eval": "evaluate",
    "predict": "predict",
    "attend": "attend",
    "shards": "shards",
    "bench": "bench",
}
"""Each command's module here, and the function of the same name in it."""


def find_command(name: str) -> Callable[[Sequence[str]], int]:
    """The function of a command; it is imported only now, which takes seconds, those of PyTorch."""
    return getattr(import_module(f"botvision.commands.{COMMANDS[name]}"), COMMANDS[name])
