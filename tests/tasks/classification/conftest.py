"""A few images in class folders, and a classifier small enough to train on them in a second."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from botvision.tasks.classification.config import (
    ClassificationData,
    ClassificationExperiment,
    ClassificationOptimizer,
    ClassifierConfig,
)
from botvision.training.config import RunConfig

CLASSES = {"blue": (40, 40, 200), "green": (40, 200, 40), "red": (200, 40, 40)}
TRAIN, VAL = 8, 4  # images a class


@pytest.fixture(scope="session")
def colours(tmp_path_factory) -> Path:
    """Three classes of noisy colours, 8 + 4 images each; tests must not change them."""
    root = tmp_path_factory.mktemp("colours") / "data"
    noise = np.random.default_rng(0)
    for split, images in (("train", TRAIN), ("val", VAL)):
        for name, colour in CLASSES.items():
            (root / split / name).mkdir(parents=True)
            for number in range(images):
                pixels = np.clip(noise.normal(colour, 60, (48, 40, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{number}.png")
    return root


@pytest.fixture(scope="session")
def colour_experiment(colours) -> ClassificationExperiment:
    """Four steps of eight images on the CPU."""
    return ClassificationExperiment(
        model=ClassifierConfig(depths=(1, 1, 1, 1), width=8, input_size=64),
        data=ClassificationData(data=str(colours), workers=0),
        optimizer=ClassificationOptimizer(warmup_epochs=0.5),
        run=RunConfig(
            steps=4, batch_size=8, precision="float32", device="cpu", eval_every=2, save_every=2, log_every=1
        ),
    )


@pytest.fixture(scope="session")
def change():
    """Replaces fields of sections of an experiment: change(experiment, model={"freeze": "c2"})."""

    def changed(experiment, **sections):
        return experiment.replace(**{name: getattr(experiment, name).replace(**of) for name, of in sections.items()})

    return changed
