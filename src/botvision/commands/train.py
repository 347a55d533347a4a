"""`botvision train`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import yaml
from tyro.conf import OmitArgPrefixes

from botvision.commands.report import report_run, stderr
from botvision.errors import UserError
from botvision.experiments import EXPERIMENTS, find_experiment
from botvision.flags import parse
from botvision.training.config import DetectionExperiment, to_plain
from botvision.training.run import resume_run, start_run
from botvision.training.settings import check


@dataclass
class TrainArguments:
    """Train an experiment; every one of its fields is a flag."""

    experiment: DetectionExperiment
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
        print("botvision train EXPERIMENT [--data DIR] [--field VALUE ...] [--print-config] [--json]")
        print("botvision train --resume RUN [--json]\n")
        print("experiments (botvision train EXPERIMENT --help lists every field):")
        for name, (what, _) in EXPERIMENTS.items():
            print(f"  {name:<18}{what}")
        return 0
    name, *rest = argv
    default = find_experiment(name)
    arguments = parse(
        Annotated[TrainArguments, OmitArgPrefixes], f"train {name}", rest, default=TrainArguments(default)
    )
    if arguments.print_config:
        check(arguments.experiment)
        print(yaml.safe_dump({"experiment": name, **to_plain(arguments.experiment)}, sort_keys=False), end="")
        return 0
    return report_run(start_run(arguments.experiment, name, stderr()), arguments.json)


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
