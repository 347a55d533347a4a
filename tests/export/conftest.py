"""Small trained models of every kind as checkpoints, pictures to export them with, and ways to run what is written."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from botvision.data import Category
from botvision.tasks.classification import Classifier, ClassifierConfig
from botvision.tasks.classification.checkpoint import describe as describe_classifier
from botvision.tasks.detection import Detr, DetrConfig, FasterRCNN, MaskRCNN
from botvision.tasks.detection.checkpoint import describe as describe_detector
from botvision.tasks.detection.detector import Detector

SIDE = 96
DETR = DetrConfig(
    depths=(1, 1, 1, 1),
    width=8,
    input_size=SIDE,
    hidden=32,
    heads=4,
    encoder_layers=1,
    decoder_layers=2,
    feed_forward=64,
    queries=10,
    dropout=0.0,
)
EXAMPLES = Path(__file__).parents[2] / "examples"
EXAMPLE = {".onnx": "run_onnx.py", ".pt2": "run_torch_export.py"}
BLOCKED = "import runpy, sys; sys.modules['botvision'] = None; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0])"
"""A program that runs another one as if botvision were not installed."""
NAMES = ["ant", "bee", "cat", "dog", "eel", "fox"]


def saved(path: Path, description: dict, model: torch.nn.Module) -> Path:
    torch.save({"botvision": description, "state_dict": dict(model.state_dict()), "step": 1}, path)
    return path


@pytest.fixture(scope="session")
def classifier(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    config = ClassifierConfig(model="botnet50", depths=(1, 1, 1, 1), width=8, input_size=64)
    path = tmp_path_factory.mktemp("classifier") / "tiny.ckpt"
    model = Classifier(config, 3)
    with torch.no_grad():
        model.network.fc.weight.mul_(30)  # so that a crop one pixel off changes what it says
    return saved(path, describe_classifier(config, ["n1", "n2", "n3"], NAMES[:3]), model)


@pytest.fixture(scope="session")
def detectors(tiny, make_lively, tmp_path_factory) -> dict[str, Path]:
    """Checkpoints by the kind of detector; all find many things."""
    folder = tmp_path_factory.mktemp("detectors")
    categories = [Category(10 * number, name) for number, name in enumerate(NAMES, start=1)]
    models: list[Detector] = []
    kinds = (("mask_rcnn", MaskRCNN, "authors"), ("faster_rcnn", FasterRCNN, "torchvision"))
    for kind, make, variant in kinds:
        torch.manual_seed(0)
        config = tiny.replace(detector=kind, variant=variant, input_size=SIDE, score_threshold=0.05)
        models.append(make_lively(make(config, len(NAMES)), class_strength=3.0))
    torch.manual_seed(0)
    models.append(Detr(DETR, len(NAMES)))
    with torch.no_grad():
        models[-1].classify.weight.mul_(30)
    return {
        model.config.detector: saved(
            folder / f"{model.config.detector}.ckpt", describe_detector(model.config, categories), model
        )
        for model in models
    }


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> list[Path]:
    """Coarse noise, so that there are things to see, in three sizes; the first one fills the detectors' input."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for name, (width, height) in (("a", (96, 72)), ("b", (60, 130)), ("c", (201, 90))):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{name}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="session")
def session():
    """Opens a file in onnxruntime: a function from arrays by name to arrays by name."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")

    def opened(path):
        program = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        names = [output.name for output in program.get_outputs()]
        return lambda **inputs: dict(zip(names, program.run(None, inputs), strict=True))

    return opened


@pytest.fixture(scope="session")
def run_example():
    """What an example prints about a picture, in a process of its own without botvision; or why it refuses to."""

    def ran(file: Path, picture: Path, status: int = 0) -> list[str]:
        words = [sys.executable, "-c", BLOCKED, str(EXAMPLES / EXAMPLE[file.suffix]), str(file), str(picture)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=300)
        assert done.returncode == status, done.stderr
        return (done.stderr if status else done.stdout).splitlines()

    return ran


@pytest.fixture(scope="session")
def scored():
    """Scores and names in the lines of an example."""

    def parsed(lines: list[str]) -> list[tuple[float, str]]:
        rows = [re.fullmatch(r"([\d.]+) (?:\[.*\] )?(\w+)", line) for line in lines]
        return [(float(row[1]), row[2]) for row in rows]

    return parsed
