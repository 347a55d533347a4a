"""A small BoTNet learns 64 photographs by heart: forward, backward, optimiser and evaluation belong together."""

import tarfile
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from botvision.classification import ClassifierConfig
from botvision.training.config import ClassificationData, ClassificationExperiment, ClassificationOptimizer, RunConfig
from botvision.training.run import start_run

ARCHIVE = Path(__file__).parents[3] / "shared" / "data" / "tiny-imagenet-100-a.tar.gz"
CLASSES, IMAGES = 8, 8


@pytest.fixture
def photographs(tmp_path):
    """The first images of a few classes, the same ones to train on and to evaluate on."""
    if not ARCHIVE.is_file():
        pytest.skip(f"{ARCHIVE} is not there")
    root, found = tmp_path / "data", Counter()
    with tarfile.open(ARCHIVE) as archive:
        for member in archive:
            _, split, label, *_ = Path(member.name).parts if member.isfile() else (None, None, None)
            if split != "train" or found[label] == IMAGES or (label not in found and len(found) == CLASSES):
                continue
            found[label] += 1
            for folder in (root / "train" / label, root / "val" / label):
                folder.mkdir(parents=True, exist_ok=True)
                (folder / Path(member.name).name).write_bytes(archive.extractfile(member).read())
            if found.total() == CLASSES * IMAGES and len(found) == CLASSES:
                break
    return root


@pytest.mark.slow
def test_64_photographs_are_learned_by_heart(photographs, tmp_path):
    experiment = ClassificationExperiment(
        model=ClassifierConfig(depths=(1, 1, 1, 1), width=16, input_size=64),
        data=ClassificationData(
            data=str(photographs), crop_scale=(0.6, 1.0), crop_ratio=(1.0, 1.0), flip=0.0, workers=0
        ),
        optimizer=ClassificationOptimizer(lr=0.4, weight_decay=0.0, warmup_epochs=5),
        run=RunConfig(
            steps=200, batch_size=64, precision="float32", device="cpu", out=tmp_path / "run", eval_every=200
        ),
    )
    scores = start_run(experiment, "imagenet/botnet50", Console(stderr=True)).scores
    assert scores["images"] == 64
    assert scores["top1"] == 1
