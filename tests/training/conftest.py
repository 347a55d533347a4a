"""A few images in class folders, and a classifier small enough to train on them in a second."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from botvision.classification import ClassifierConfig
from botvision.training.classification import ClassificationTask
from botvision.training.config import ClassificationData, ClassificationExperiment, ClassificationOptimizer, RunConfig

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
    """Four steps of eight images on the processor."""
    return ClassificationExperiment(
        model=ClassifierConfig(depths=(1, 1, 1, 1), width=8, input_size=64),
        data=ClassificationData(data=str(colours), workers=0),
        optimizer=ClassificationOptimizer(warmup_epochs=0.5),
        run=RunConfig(
            steps=4, batch_size=8, precision="float32", device="cpu", eval_every=2, save_every=2, log_every=1
        ),
    )


@pytest.fixture
def interrupt_at(monkeypatch):
    """Sends SIGINT during the losses of a batch, once."""

    def arrange(batch: int) -> None:
        losses, done = ClassificationTask.losses, []

        def interrupted(self, model, contents):
            done.append(1)
            if len(done) == batch:
                os.kill(os.getpid(), signal.SIGINT)
            return losses(self, model, contents)

        monkeypatch.setattr(ClassificationTask, "losses", interrupted)

    return arrange
