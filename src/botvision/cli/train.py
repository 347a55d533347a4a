"""`botvision train`."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import yaml
from cyclopts import App, Parameter

from botvision.cli.fields import changed, chosen, flags, with_flags
from botvision.cli.output import leaving_at_once, report_run, stderr
from botvision.cli.settings import APP_SETTINGS
from botvision.configuration import FieldError
from botvision.errors import UserError
from botvision.experiments import EXPERIMENTS, RECIPES, Experiment, find_experiment
from botvision.experiments.paper import TABLES
from botvision.tasks.registry import TASKS, task_of_run
from botvision.training import trainer
from botvision.training.config import RunConfig
from botvision.training.connection import connect
from botvision.training.processes import connect_processes
from botvision.training.run_folder import read_config
from botvision.training.run_name import OtherSettingsError
from botvision.training.sharing import on_every_process

USAGE = """\
botvision train EXPERIMENT [--data DIR] [--field VALUE ...] [--print-config] [--json]
botvision train imagenet/MODEL --data DIR [--recipe NAME] [--smoke] [--field VALUE ...]
botvision train --resume RUN [--steps N | --epochs N] [--json]

experiments (botvision train EXPERIMENT --help lists every field):"""


def experiment_names(context: object) -> list[str]:
    """What a shell offers to complete."""
    return list(EXPERIMENTS)


def train(*words: Annotated[str, Parameter(allow_leading_hyphen=True, completer=experiment_names)]) -> int:
    """Train an experiment, or continue a run; every field of an experiment is a flag.

    Args:
        words: EXPERIMENT [--field VALUE ...], or --resume RUN.
    """
    if any(word.partition("=")[0] == "--resume" for word in words):
        return run_words("", resume, words)
    if not words or words[0] in ("-h", "--help"):
        print_experiments()
        return 0
    name, *rest = words
    if name.startswith("-"):
        raise UserError("train needs an experiment first: botvision train EXPERIMENT [--field VALUE ...]")
    entry = find_experiment(name)

    def run(*, print_config: bool = False, json: bool = False, **given: Any) -> int:  # noqa: ANN401 (of the fields)
        """Every field of the experiment is a flag.

        Args:
            print_config: Print the experiment's settings as YAML, and do nothing else.
            json: Print the final scores as JSON.
        """
        return train_experiment(name, entry, given, print_config=print_config, as_json=json)

    sections = [flags(type(section), f"Section {title}", section) for title, section in entry.config]
    return run_words(name, with_flags(run, flags(entry.options, "Start from"), *sections), rest, help_text(entry, rest))


def help_text(entry: Experiment, words: Sequence[str]) -> str:
    """What an experiment is and what to expect of it, where the words ask for help (counting takes a second)."""
    return f"{entry.description}. {entry.details()}" if {"-h", "--help"} & set(words) else ""


def run_words(name: str, command: Any, words: Any, description: str = "") -> int:  # noqa: ANN401
    """Parse the words as a command's flags, and run it."""
    title = f"botvision train {name}".strip()
    return App(name=title, default_command=command, help=description, version_flags=(), **APP_SETTINGS)(words) or 0


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
    with leaving_at_once():
        connect_processes(config.run)
        task = on_every_process(lambda: TASKS[entry.task](config))  # which finds the data
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
