"""The flags of an experiment: common ones first, then every other field in a part of the help for its section."""

import inspect

from cyclopts import Group

from botvision.cli.fields import COMMON, flags
from botvision.experiments import Experiment

COMMON_FIELDS = (
    *("data", "out", "recipe", "smoke", "epochs", "steps", "batch_size", "images_per_device", "lr", "weights"),
    *("input_size", "device", "precision", "workers", "seed"),
)
"""In the order in which the help shows them."""
SECTIONS = {
    "model": Group("Model", sort_key=2),
    "data": Group("Data", sort_key=3),
    "optimizer": Group("Optimiser", sort_key=4),
    "run": Group("Run", sort_key=5),
}
"""Parts of the help, by the section of an experiment's configuration."""


def experiment_flags(entry: Experiment) -> list[inspect.Parameter]:
    """A flag for each option and each field of an experiment, with its own values as defaults."""
    config = entry.config
    optimizer = dict(config)["optimizer"]
    notes = {"lr": f"Here: {optimizer.about_lr(config.run.batch_size)}."}
    found = flags(entry.options, COMMON, common=COMMON_FIELDS)
    for title, section in config:
        found += flags(type(section), SECTIONS[title], section, common=COMMON_FIELDS, notes=notes)
    places = {name: place for place, name in enumerate(COMMON_FIELDS)}
    return sorted(found, key=lambda flag: places.get(flag.name, len(places)))
