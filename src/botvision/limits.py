"""What the numbers of a configuration may be: refused when a configuration is made, wherever it comes from."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from botvision.errors import UserError


class Limit(NamedTuple):
    """A range of numbers."""

    words: str
    holds: Callable[[float], bool]
    """False of "not a number" too: every comparison with it is."""


AT_LEAST_1 = Limit("at least 1", lambda number: 1 <= number < math.inf)
AT_LEAST_0 = Limit("at least 0 and finite", lambda number: 0 <= number < math.inf)
ABOVE_0 = Limit("more than 0 and finite", lambda number: 0 < number < math.inf)
SHARE = Limit("between 0 and 1", lambda number: 0 <= number <= 1)
BELOW_1 = Limit("at least 0 and below 1", lambda number: 0 <= number < 1)


def check_limits(config: Any, limits: dict[str, Limit]) -> None:  # noqa: ANN401
    """Check fields of a configuration; None, for not given, passes, and of several numbers each has to hold.

    Raises:
        UserError: naming the flag, what it has and what it should be.
    """
    for name, limit in limits.items():
        value = getattr(config, name)
        numbers = value if isinstance(value, tuple | list) else [] if value is None else [value]
        if not all(limit.holds(number) for number in numbers):
            raise UserError(f"--{name.replace('_', '-')} must be {limit.words}, got {value}")
