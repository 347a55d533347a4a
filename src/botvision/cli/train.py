"""`botvision train`."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import yaml
from cyclopts import App, Group, Parameter

from botvision.cli.examples import examples, train_examples
from botvision.cli.experiment_flags import experiment_flags
from botvision.cli.fields import COMMON, changed, chosen, flags, with_flags
from botvision.cli.output import leaving_at_once, report_run, stderr
from botvision.cli.settings import APP_SETTINGS
from botvision.cli.suggestions import AS_FLAGS, assignments
from botvision.configuration import FieldError
from botvision.errors import UserError
from botvision.experiments import EXPERIMENTS, RECIPES, Experiment, find_experiment
from botvision.experiments.paper import TABLES
from botvision.tasks.registry import task_named, task_of_run
from botvision.training.config import RunConfig
from botvision.training.run_folder import read_config
from botvision.training.run_name import OtherSettingsError

USAGE = """\
botvision train EXPERIMENT [--data DIR] [--field VALUE ...] [--print-config] [--json]
botvision train imagenet/MODEL --data DIR [--recipe NAME] [--smoke] [--field VALUE ...]
botvision train --resume RUN [--steps N | --epochs N] [--json]

experiments (botvision train EXPERIMENT --help lists every field):"""
COMMON_FLAG = Parameter(group=COMMON)
LAST = Group("Help", sort_key=9)
"""The part of a long help that comes last."""


def experiment_names(context: object) -> list[str]:
    """What a shell offers to complete."""
    return list(EXPERIMENTS)


def train(*words: Annotated[str, Parameter(allow_leading_hyphen=True, completer=experiment_names)]) -> int:
    """Train an experiment, or continue a run; every field of an experiment is a flag.

    Args:
        words: EXPERIMENT [--field VALUE ...], or --resume RUN.
    """
    if any(word.partition("=")[0] == "--resume" for word in words):
        return run_words("", resume, words, epilogue=examples("train"))
    if not words or words[0] in ("-h", "--help"):
        print_experiments()
        return 0
    name, *rest = words
    if name.startswith("-") or assignments([name]):
        how = f"; {AS_FLAGS}" if assignments(words) else ""
        raise UserError(f"train needs an experiment first: botvision train EXPERIMENT [--field VALUE ...]{how}")
    entry = find_experiment(name)

    def run(
        *,
        print_config: Annotated[bool, COMMON_FLAG] = False,
        json: Annotated[bool, COMMON_FLAG] = False,
        **given: Any,  # noqa: ANN401 (of the fields)
    ) -> int:
        """Every field of the experiment is a flag.

        Args:
            print_config: Print the experiment's settings as YAML, and do nothing else.
            json: Print the final scores as JSON.
        """
        return train_experiment(name, entry, given, print_config=print_config, as_json=json)

    flagged = with_flags(run, experiment_flags(entry), own_last=True)
    return run_words(name, flagged, rest, help_text(entry, rest), train_examples(name, entry.task))


def help_text(entry: Experiment, words: Sequence[str]) -> str:
    """What an experiment is and what to expect of it, where the words ask for help."""
    if not {"-h", "--help"} & set(words):
        return ""
    return f"{entry.description[:1].upper()}{entry.description[1:]}. {entry.details()}"


def run_words(name: str, command: Any, words: Any, description: str = "", epilogue: str = "") -> int:  # noqa: ANN401
    """Parse the words as a command's flags, and run it; the texts are for its help."""
    title = f"botvision train {name}".strip()
    texts: dict[str, Any] = {"help": description, "help_epilogue": epilogue, "group_commands": LAST}
    return App(name=title, default_command=command, version_flags=(), **texts, **APP_SETTINGS)(words) or 0


def train_experiment(name: str, entry: Experiment, given: dict[str, Any], *, print_config: bool, as_json: bool) -> int:
    """Train an experiment with some fields changed, or print its settings.

    Raises:
        UserError: a value that its field cannot have, ``--steps`` with ``--epochs``, or a run of other settings.
    """
    given |= run_length(given)
    options = chosen(
        entry.options, {key: given.pop(key) for key in list(given) if key in entry.options.model_fields}, name
    )
    config = changed(entry.build(options), given)
    if print_config:
        content = {"experiment": name, "task": entry.task, **config.plain()}
        print(yaml.safe_dump(content, sort_keys=False), end="")
        return 0
    from botvision.training import trainer
    from botvision.training.processes import connect_processes
    from botvision.training.sharing import on_every_process

    with leaving_at_once():
        connect_processes(config.run)
        task = on_every_process(lambda: task_named(entry.task)(config))  # which finds the data
        try:
            outcome = trainer.start(task, name, stderr())
        except OtherSettingsError as error:
            advice = f"give another --out, or go on with it: botvision train --resume '{error.folder}'"
            is_longer = error.path[-1] in ("steps", "epochs")
            longer = " --steps N or --epochs N, which makes it longer" if is_longer else ""
            raise FieldError(error.path, f"{error.problem}; {advice}{longer}") from error
    return report_run(outcome, task.tables, as_json)


def run_length(given: Mapping[str, Any]) -> dict[str, Any]:
    """How long a run is by the flags that were given; epochs replace steps, which would win otherwise.

    Raises:
        UserError: ``--steps`` and ``--epochs`` together.
    """
    length = {name: given[name] for name in ("steps", "epochs") if name in given}
    if len(length) > 1:
        raise UserError("--steps and --epochs both say how long the run is; give one of them")
    return {"steps": None, **length} if length else {}


def resume(*, resume: Path, json: bool = False, **given: Any) -> int:  # noqa: ANN401 (of RunConfig)
    """Continue a run with its own settings; more steps or epochs than it had make it longer.

    Args:
        resume: The run folder.
        json: Print the final scores as JSON.
    """
    from botvision.training import trainer
    from botvision.training.connection import connect
    from botvision.training.sharing import on_every_process

    with leaving_at_once():
        connect(device_of(resume))
        task = on_every_process(lambda: task_of_run(resume, **run_length(given)))
        outcome = trainer.resume(task, resume, stderr())
    return report_run(outcome, task.tables, json)


def device_of(folder: Path) -> str:
    """The device of a run; where its folder cannot be read, auto: the processes say so once they are connected."""
    try:
        return str(read_config(folder).settings["run"]["device"])
    except (UserError, LookupError, TypeError):
        return "auto"


with_flags(resume, [flag for flag in flags(RunConfig, "Longer") if flag.name in ("steps", "epochs")])


def print_experiments() -> None:
    """How to call the command, and every experiment; those that differ in the model alone share a line."""
    print(USAGE)
    for name, what, models in grouped():
        print(f"  {name:<24}{what}")
        if models:
            print(textwrap.fill(", ".join(models), 110, initial_indent=" " * 26, subsequent_indent=" " * 26))
    print("\nrecipes:")
    for recipe, (what, _) in RECIPES.items():
        print(f"  {recipe:<24}{what}")
    print(f"\n{examples('train')}")


def grouped() -> Iterator[tuple[str, str, list[str]]]:
    """Name, description and models of experiments; a single one has its own name and no list of models."""
    for (group, what), names in groupby(
        EXPERIMENTS, lambda name: (name.partition("/")[0], EXPERIMENTS[name].description)
    ):
        listed = list(names)
        if len(listed) == 1:
            yield listed[0], what, []
        else:
            yield f"{group}/{'ROW' if group in TABLES else 'MODEL'}", what, [name.partition("/")[2] for name in listed]
