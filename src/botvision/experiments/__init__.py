"""The paper as code: experiments by name."""

from botvision.experiments.catalogue import EXPERIMENTS, find_experiment

__all__ = ["EXPERIMENTS", "find_experiment"]
