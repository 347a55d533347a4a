"""The recipes of image classification: how long, how fast, and how strongly the images are varied.

Each fits every model of the catalogue. The first two are in the paper (Sections 4.7.2 and 4.7.3); the third is that of
its Figure 5, whose settings the paper takes from ResNet-RS (Bello et al. 2021).
"""

from typing import Any, Literal

from botvision.configuration import Config, FieldError
from botvision.experiments.experiment import Experiment
from botvision.models.catalogue import nearest
from botvision.tasks.classification.config import (
    ClassificationData,
    ClassificationExperiment,
    ClassificationOptimizer,
    ClassifierConfig,
)
from botvision.training.config import RunConfig

RECIPES: dict[str, tuple[str, ClassificationExperiment]] = {
    "regular": (
        "100 epochs, crops and flips (Table 9)",
        ClassificationExperiment(
            optimizer=ClassificationOptimizer(weight_decay=1e-4),
            run=RunConfig(epochs=100, batch_size=1024),
        ),
    ),
    "improved": (
        "200 epochs, RandAugment and label smoothing (Table 10)",
        ClassificationExperiment(
            data=ClassificationData(randaugment=(2, 10)),
            optimizer=ClassificationOptimizer(weight_decay=8e-5, label_smoothing=0.1),
            run=RunConfig(epochs=200, batch_size=4096),
        ),
    ),
    "scaling": (
        "350 epochs, RandAugment, dropout, stochastic depth, average of weights (Figure 5)",
        ClassificationExperiment(
            model=ClassifierConfig(dropout=0.25, stochastic_depth=0.1),
            data=ClassificationData(randaugment=(2, 10)),
            optimizer=ClassificationOptimizer(weight_decay=4e-5, label_smoothing=0.1),
            run=RunConfig(epochs=350, batch_size=4096, ema_decay=0.9999),
        ),
    ),
}

STRONGER_RANDAUGMENT_ABOVE = 224
"""Pixels; the scaling recipe has RandAugment's magnitude 15 for larger images."""
MORE_STOCHASTIC_DEPTH_ABOVE = 256
"""Pixels; the scaling recipe drops more blocks of networks for larger images, whose ends of 0.1 and 0.2 are published
without saying which is for which."""


def train_by(recipe: str, model: str) -> ClassificationExperiment:
    """A model of the catalogue trained by a recipe.

    Raises:
        FieldError: no recipe of that name; the known ones are given.
    """
    if recipe not in RECIPES:
        raise FieldError(("recipe",), f"{recipe!r} is unknown{nearest(recipe, list(RECIPES))}")
    _, experiment = RECIPES[recipe]
    config, data = experiment.model.replace(model=model), experiment.data
    if recipe == "scaling" and config.image_size > MORE_STOCHASTIC_DEPTH_ABOVE:
        config = config.replace(stochastic_depth=0.2)
    if recipe == "scaling" and config.image_size > STRONGER_RANDAUGMENT_ABOVE:
        data = data.replace(randaugment=(2, 15))
    return experiment.replace(model=config, data=data)


def smoke(experiment: ClassificationExperiment) -> ClassificationExperiment:
    """The same experiment so small that a CPU runs it in minutes: to see that data and settings work.

    At most two blocks a stage, a quarter of the width, images of 64 pixels, 500 steps of 64; the kind of
    network and the recipe are kept.
    """
    depths = experiment.model.network().depths
    few = (min(2, depths[0]), min(2, depths[1]), min(2, depths[2]), min(2, depths[3]))
    run = experiment.run.replace(steps=500, batch_size=64, precision="float32", save_every=100)
    return experiment.replace(
        model=experiment.model.replace(depths=few, width=16, input_size=64),
        data=experiment.data.replace(workers=1),
        optimizer=experiment.optimizer.replace(lr=0.4, warmup_epochs=0),  # a run this short has to make large steps
        run=run,
    )


class SmokeOptions(Config):
    """Options of the classification experiments of the paper."""

    smoke: bool = False
    """Start from a small version instead: narrow, few blocks, 64 pixels, 500 steps; minutes on a CPU."""


class ImagenetOptions(SmokeOptions):
    """Options of imagenet/MODEL."""

    recipe: Literal["regular", "improved", "scaling"] = "regular"
    """The settings to start from: regular (Table 9), improved (Table 10) or scaling (Figure 5)."""


def classifier(model: str, recipe: str | None, what: str) -> Experiment:
    """A model trained by a recipe, or by the one that the options name."""

    def build(options: Any) -> ClassificationExperiment:  # noqa: ANN401 (of the type below)
        config = train_by(recipe or options.recipe, model)
        return smoke(config) if options.smoke else config

    return Experiment(what, "classification", build, SmokeOptions if recipe else ImagenetOptions)
