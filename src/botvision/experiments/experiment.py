"""A named experiment."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from botvision.configuration import Config
from botvision.training.config import ExperimentConfig


class NoOptions(Config):
    """An experiment that is changed by its fields alone."""


@dataclass(frozen=True)
class Experiment:
    """An entry of the catalogue. Its options choose the settings to start from; every field can then be overridden."""

    description: str
    task: str
    """Name of a task, see ``botvision.tasks.registry``."""
    build: Callable[[Any], ExperimentConfig]
    """The settings for some ``options``."""
    options: type[Config] = NoOptions
    """What can be chosen."""
    details: Callable[[], str] = str
    """What to expect of a run: its cost, and what others measured. Nothing by default."""

    @property
    def config(self) -> ExperimentConfig:
        """The settings without any options given."""
        return self.build(self.options())
