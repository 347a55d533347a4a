"""Fields of configurations as flags of the command line: ``batch_size`` is ``--batch-size``."""

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Annotated, Any, TypeVar

from cyclopts import Group, Parameter

from botvision.cli.settings import shown_default
from botvision.configuration import Config, FieldError

SomeConfig = TypeVar("SomeConfig", bound=Config)
COMMON = Group("Common", sort_key=1)
"""The part of a long help that comes first."""


def flag_of(name: str) -> str:
    """The flag of a field."""
    return f"--{name.replace('_', '-')}"


def flags(
    fields_of: type[Config],
    group: str | Group,
    values: Config | None = None,
    *,
    common: Collection[str] = (),
    notes: Mapping[str, str] | None = None,
) -> list[inspect.Parameter]:
    """A flag for each field of a configuration, with the text below the field as its help.

    Args:
        fields_of: the configuration.
        group: title of its part of the help.
        values: whose values the help shows as defaults; by default the fields' own.
        common: fields that are shown in :data:`COMMON` instead.
        notes: what the help says of a field beside the text below it.
    """
    found = []
    for name, field in fields_of.model_fields.items():
        default = field.get_default(call_default_factory=True) if values is None else getattr(values, name)
        show = shown_default if default is not None else False
        text = " ".join(f"{field.description or ''} {(notes or {}).get(name, '')}".split())
        shown = Parameter(help=text, group=COMMON if name in common else group, show_default=show)
        found.append(
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if field.is_required() and values is None else default,
                annotation=Annotated[field.annotation, shown],
            )
        )
    return found


def with_flags(
    command: Callable[..., int], *more: Iterable[inspect.Parameter], own_last: bool = False
) -> Callable[..., int]:
    """The command with more flags; those that the user gives arrive in its ``**given``, the others do not.

    Of flags of the same name the first one counts. The help shows the command's own first, unless ``own_last``.
    """
    signature = inspect.signature(command).parameters.values()
    own = [parameter for parameter in signature if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
    named: dict[str, inspect.Parameter] = {}
    for parameters in (*more, own) if own_last else (own, *more):
        for parameter in parameters:
            named.setdefault(parameter.name, parameter)
    command.__signature__ = inspect.Signature(list(named.values()))  # type: ignore[attr-defined]
    return command


def chosen(fields_of: type[SomeConfig], given: Mapping[str, Any], owner: str) -> SomeConfig:
    """The configuration made of given values.

    Raises:
        FieldError: a value that belongs to another than ``owner``, the task or experiment in use.
    """
    for name in given:
        if name not in fields_of.model_fields:
            raise FieldError((name,), f"does not belong to {owner}")
    return fields_of(**given)


def changed(experiment: SomeConfig, given: Mapping[str, Any]) -> SomeConfig:
    """An experiment with the given values in the sections that have fields of these names.

    Raises:
        FieldError: a value that its field cannot have.
    """
    sections = {}
    for name, section in experiment:
        changes = {field: value for field, value in given.items() if field in type(section).model_fields}
        if changes:
            sections[name] = section.replace(**changes)
    return experiment.replace(**sections)
