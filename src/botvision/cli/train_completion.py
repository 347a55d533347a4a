"""`botvision train` as shells complete it: before they know the experiment, with the flags of all experiments."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from botvision.cli.experiment_flags import experiment_flags
from botvision.cli.fields import with_flags
from botvision.cli.train import experiment_names
from botvision.experiments import EXPERIMENTS


def train(
    *words: Annotated[str, Parameter(completer=experiment_names)],
    resume: Path | None = None,
    print_config: bool = False,
    json: bool = False,
    **given: Any,  # noqa: ANN401 (of the fields of all experiments)
) -> int:
    """Train an experiment, or continue a run; every field of an experiment is a flag."""
    raise NotImplementedError("completion alone reads this signature")


with_flags(train, *(experiment_flags(entry) for entry in EXPERIMENTS.values()))
