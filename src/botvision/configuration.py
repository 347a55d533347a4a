"""The one validation system: configurations are pydantic models, and what is wrong with one names the field."""

from numbers import Integral
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from botvision.errors import UserError, printable, short

LARGEST_COUNT = 2**31 - 1
"""Of the libraries in C++ that take such numbers."""
LARGEST = 1e30
"""Larger numbers overflow in float32, the precision of weights and losses."""

Count = Annotated[int, Field(ge=1, le=LARGEST_COUNT)]
"""A whole number, at least 1."""
CountOrZero = Annotated[int, Field(ge=0, le=LARGEST_COUNT)]
"""A whole number, at least 0."""
Positive = Annotated[float, Field(gt=0, le=LARGEST)]
"""A finite number above 0."""
NotNegative = Annotated[float, Field(ge=0, le=LARGEST)]
"""A finite number, at least 0."""
Share = Annotated[float, Field(ge=0, le=1)]
"""A number between 0 and 1, both included."""
ShareBelow1 = Annotated[float, Field(ge=0, lt=1)]
"""A number between 0 and 1, 1 excluded."""


class FieldError(UserError):
    """A field of a configuration cannot have its value.

    Args:
        path: names from the outermost configuration to the field, such as ("model", "width").
        problem: what is wrong and what would be right, for example "should be at least 1, got 0".
        others: names of other fields in ``problem``, which the command line writes as flags. Everything else in it
            stays as it is: it may be the name of a file.
    """

    def __init__(self, path: tuple[str, ...], problem: str, others: tuple[str, ...] = ()) -> None:
        super().__init__(f"{'.'.join(path)}: {problem}" if path else problem)
        self.path = path
        self.problem = printable(problem)
        self.others = others


class Config(BaseModel):
    """Base of every configuration: immutable, unknown fields refused, each field documented by the text below it.

    Raises:
        FieldError: a value that the field cannot have, an unknown field, or a missing one.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )

    def __init__(self, /, **values: Any) -> None:  # noqa: ANN401 (checked by the fields)
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise field_error(error) from error

    def replace(self, **changes: Any) -> Self:  # noqa: ANN401 (checked by the fields)
        """A copy with some fields changed, checked like a new one."""
        return type(self)(**{**dict(self), **changes})

    def plain(self) -> dict[str, Any]:
        """The configuration as numbers, texts, lists and dictionaries, for YAML, JSON and checkpoints."""
        return self.model_dump(mode="json")


def field_error(error: ValidationError) -> FieldError:
    """The first problem of a pydantic error, in one line that names the field."""
    first = error.errors(include_url=False)[0]
    path = tuple(part for part in first["loc"] if isinstance(part, str) and part != "[key]")
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, FieldError):  # from a configuration inside this one
        return FieldError((*path, *cause.path), cause.problem, cause.others)
    if isinstance(cause, ValueError):  # from a validator of ours, which says what it got
        return FieldError(path, str(cause))
    return FieldError(path, problem_of(first))


def check_count(name: str, value: object) -> None:
    """Raise a FieldError for an argument that is no whole number, or is below 1."""
    if not isinstance(value, Integral) or value < 1:
        raise FieldError((name,), f"should be a whole number, at least 1, got {short(value)}")


def check_fraction(name: str, value: Any) -> None:  # noqa: ANN401 (whatever is given)
    """Raise a FieldError for an argument that is no number, or is not from 0 to 1; a tensor of one number is one."""
    try:
        is_fraction = not isinstance(value, str | bytes) and 0 <= float(value) <= 1
    except (TypeError, ValueError, RuntimeError):  # the last of tensors
        is_fraction = False
    if not is_fraction:
        raise FieldError((name,), f"should be a number from 0 to 1, got {short(value)}")


PROBLEMS = {
    "extra_forbidden": "is not a known field",
    "missing": "is missing",
    "greater_than": "should be more than {gt}, got {got}",
    "greater_than_equal": "should be at least {ge}, got {got}",
    "less_than": "should be less than {lt}, got {got}",
    "less_than_equal": "should be at most {le}, got {got}",
    "finite_number": "should be a finite number, got {got}",
    "int_type": "should be a whole number, got {got}",
    "int_parsing": "should be a whole number, got {got}",
    "int_from_float": "should be a whole number, got {got}",
    "float_type": "should be a number, got {got}",
    "float_parsing": "should be a number, got {got}",
    "literal_error": "should be {expected}, got {got}",
    "too_short": "should have at least {min_length} values, got {actual_length}",
    "too_long": "should have at most {max_length} values, got {actual_length}",
}
"""By pydantic's type of an error: what is wrong, in the words of this package."""


def problem_of(details: ErrorDetails) -> str:
    """What is wrong with a value and what would be right."""
    if details["type"] == "missing" and not isinstance(details["loc"][-1], str):  # inside a tuple
        return f"has too few values, got {short(details['input'])}"
    if details["type"] in PROBLEMS:
        return PROBLEMS[details["type"]].format(got=short(details["input"]), **details.get("ctx", {}))
    message = details["msg"].removeprefix("Input ")
    return f"{message[:1].lower()}{message[1:]}, got {short(details['input'])}"
