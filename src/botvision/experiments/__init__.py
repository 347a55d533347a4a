"""The paper as code: experiments by name."""

from botvision.experiments.catalogue import EXPERIMENTS, find_experiment
from botvision.experiments.recipes import RECIPES, smoke, train_by

__all__ = ["EXPERIMENTS", "RECIPES", "find_experiment", "smoke", "train_by"]
