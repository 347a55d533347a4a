"""The paper as data: experiments by name."""

from botvision.experiments.catalogue import EXPERIMENTS, find_experiment
from botvision.experiments.experiment import Experiment, NoOptions
from botvision.experiments.recipes import RECIPES, smoke, train_by

__all__ = ["EXPERIMENTS", "RECIPES", "Experiment", "NoOptions", "find_experiment", "smoke", "train_by"]
