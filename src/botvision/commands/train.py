"""`botvision train`."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from tyro.conf import OmitArgPrefixes

from botvision.commands.report import report_run, stderr
from botvision.errors import UserError
from botvision.experiments import EXPERIMENTS, RECIPES, find_experiment, smoke, train_by
from botvision.flags import parse
from botvision.training.config import ClassificationExperiment, DetectionExperiment, Experiment, to_plain
from botvision.training.run import resume_run, start_run
from botvision.training.settings import check

Arguments = TypeVar("Arguments", "TrainArguments", "TrainClassifierArguments")


@dataclass
class TrainArguments:
    """Train an experiment; every one of its fields is a flag."""

    experiment: DetectionExperiment
    print_config: bool = False
    """Print the experiment's settings as YAML, and do nothing else."""
    json: bool = False
    """Print the final scores as JSON."""


@dataclass
class TrainClassifierArguments:
    """Train an experiment; every one of its fields is a flag."""

    experiment: ClassificationExperiment
    recipe: Literal["regular", "improved", "scaling"] | None = None
    """Of imagenet/MODEL, the settings to start from: regular (Table 9), improved (Table 10) or scaling (Figure 5)."""
    smoke: bool = False
    """Start from a small version instead: narrow, few blocks, 64 pixels, 500 steps; minutes on a processor."""
    print_config: bool = False
    """Print the experiment's settings as YAML, and do nothing else."""
    json: bool = False
    """Print the final scores as JSON."""


def train(argv: Sequence[str]) -> int:
    """`botvision train EXPERIMENT [--field VALUE ...]` and `botvision train --resume RUN`."""
    if any(word.partition("=")[0] == "--resume" for word in argv):
        return resume(argv)
    if not argv or argv[0].startswith("-"):
        if argv and argv[0] not in ("-h", "--help"):
            raise UserError("train needs an experiment first: botvision train EXPERIMENT [--field VALUE ...]")
        print_experiments()
        return 0
    name, *rest = argv
    arguments = read_arguments(name, rest)
    if arguments.print_config:
        check(arguments.experiment)
        print(yaml.safe_dump({"experiment": name, **to_plain(arguments.experiment)}, sort_keys=False), end="")
        return 0
    return report_run(start_run(arguments.experiment, name, stderr()), arguments.json)


def read_arguments(name: str, words: Sequence[str]) -> TrainArguments | TrainClassifierArguments:
    """The experiment of a name as the flags change it.

    Raises:
        UserError: an unknown experiment, flag or value.
    """
    experiment = find_experiment(name)
    if isinstance(experiment, DetectionExperiment):
        return parse_flags(name, words, TrainArguments(experiment))
    arguments = parse_flags(name, words, TrainClassifierArguments(experiment))
    group, _, model = name.partition("/")
    if arguments.recipe and group != "imagenet":
        raise UserError(f"--recipe goes with imagenet/{model}; {name} has a recipe of its own")
    if not arguments.recipe and not arguments.smoke:
        return arguments
    if arguments.recipe:
        experiment = train_by(arguments.recipe, model)
    if arguments.smoke:
        experiment = smoke(experiment)
    return parse_flags(name, words, TrainClassifierArguments(experiment))  # again: other flags change these settings


def parse_flags(name: str, words: Sequence[str], default: Arguments) -> Arguments:
    """The arguments that the flags make of the default ones; the length of a run is the one that was given.

    Raises:
        UserError: --steps and --epochs, which both say how long a run is.
    """
    given = {word.partition("=")[0] for word in words}
    if {"--steps", "--epochs"} <= given:
        raise UserError("--steps and --epochs both say how long the run is; give one of them")
    if "--epochs" in given:  # instead of the experiment's own steps, which would win
        experiment: Any = default.experiment
        default = replace(default, experiment=replace(experiment, run=replace(experiment.run, steps=None)))
    return parse(Annotated[type(default), OmitArgPrefixes], f"train {name}", words, default=default)


def print_experiments() -> None:
    """How to call the command, and every experiment; those that differ in the model alone share a line."""
    print("botvision train EXPERIMENT [--data DIR] [--field VALUE ...] [--print-config] [--json]")
    print("botvision train imagenet/MODEL --data DIR [--recipe NAME] [--smoke] [--field VALUE ...]")
    print("botvision train --resume RUN [--json]\n")
    print("experiments (botvision train EXPERIMENT --help lists every field):")
    for name, what, models in grouped(EXPERIMENTS):
        print(f"  {name:<18}{what}")
        if models:
            print(textwrap.fill(", ".join(models), 110, initial_indent=" " * 20, subsequent_indent=" " * 20))
    print("\nrecipes:")
    for recipe, (what, _) in RECIPES.items():
        print(f"  {recipe:<18}{what}")


def grouped(experiments: dict[str, tuple[str, Experiment]]) -> Iterator[tuple[str, str, list[str]]]:
    """Name, description and models of experiments; a single one has its own name and no list of models."""
    for (group, what), names in groupby(experiments, lambda name: (name.partition("/")[0], experiments[name][0])):
        listed = list(names)
        if len(listed) == 1:
            yield listed[0], what, []
        else:
            yield f"{group}/MODEL", what, [name.partition("/")[2] for name in listed]


def resume(argv: Sequence[str]) -> int:
    """`botvision train --resume RUN [--json]`: a run's settings are its own, nothing else can be given."""
    match [word for word in argv if word != "--json"]:
        case ["--resume", folder] if folder and not folder.startswith("-"):
            pass
        case [word] if word.startswith("--resume=") and word != "--resume=":
            folder = word.removeprefix("--resume=")
        case _:
            raise UserError("--resume takes exactly one run folder, and nothing else but --json")
    return report_run(resume_run(Path(folder), stderr()), "--json" in argv)
