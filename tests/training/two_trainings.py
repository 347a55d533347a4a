"""Trainings that one process and two, started by torchrun, should do alike. As a script, it does them."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from botvision.models import create_model
from botvision.tasks.classification.config import (
    ClassificationData,
    ClassificationExperiment,
    ClassificationOptimizer,
    ClassifierConfig,
)
from botvision.tasks.detection.config import (
    DetectionData,
    DetectionExperiment,
    DetectionOptimizer,
    DetectorConfig,
    DetrConfig,
    DetrOptimizer,
)
from botvision.tasks.registry import task_named
from botvision.training import memory
from botvision.training.config import RunConfig
from botvision.training.trainer import start

SMALL: dict[str, Any] = {"depths": (1, 1, 1, 1), "width": 32, "input_size": 64}
# All anchors and regions are in the losses: which ones are drawn otherwise depends on the process, and which ones NMS
# leaves on the last digit of their scores.
EVERYTHING = {"rpn_samples": 100_000, "roi_samples": 10_000, "roi_foreground": 1.0}
EVERYTHING |= {"rpn_nms": 1.0, "proposals_before_nms": (10_000, 50), "proposals": (10_000, 50)}
HEADS = {"fpn_channels": 16, "box_head_width": 32, "mask_head_width": 16, "mask_head_depth": 1, "head_norm": True}
CASES = ("mask_rcnn-batch", "mask_rcnn-frozen", "mask_rcnn-group", "detr-batch", "classifier-batch", "classifier-group")
CASES += ("classifier-group-damaged",)
"""The last one with a training image that cannot be read, so that a process has fewer than the other."""
SHARDED = ("mask_rcnn-group-fsdp", "classifier-batch-fsdp")
"""Two processes hold a part of the weights each (FSDP2)."""
BATCH, STEPS = 4, 10


def experiment(case: str, data: Path, out: Path) -> DetectionExperiment | ClassificationExperiment:
    """Ten steps of four images, float32 on the CPU; small ones, because what rounding changes grows with every step."""
    kind, norm, *other = case.split("-")
    strategy = "fsdp" if "fsdp" in other and "RANK" in os.environ else "ddp"
    classes = "damaged" if "damaged" in other else "classes"
    weights = out / f"{case}-weights.pth" if norm == "frozen" else None
    run = RunConfig(
        out=out / case,
        steps=STEPS,
        batch_size=BATCH,
        precision="float32",
        device="cpu",
        log_every=1,
        eval_every=STEPS,
        weights=weights,
        strategy=strategy,
    )
    if kind == "classifier":
        return ClassificationExperiment(
            model=ClassifierConfig(norm=norm, **SMALL),
            data=ClassificationData(data=str(data / classes), workers=0),
            optimizer=ClassificationOptimizer(lr=0.05, warmup_epochs=1),
            run=run,
        )
    if kind == "detr":
        small = {"hidden": 16, "heads": 2, "encoder_layers": 1, "decoder_layers": 1, "feed_forward": 16, "queries": 10}
        model: Any = DetrConfig(backbone_norm=norm, dropout=0.0, norm_momentum=0.1, **small, **SMALL)
        optimizer: Any = DetrOptimizer(lr=1e-5)
    else:
        model = DetectorConfig(
            backbone_norm=norm, norm_momentum=0.1, score_threshold=0.0, **EVERYTHING, **HEADS, **SMALL
        )
        optimizer = DetectionOptimizer(lr=0.02, warmup_steps=0)
    data_config = DetectionData(data=data / "objects", workers=0)
    return DetectionExperiment(model=model, data=data_config, optimizer=optimizer, run=run)


def train(data: Path, out: Path) -> None:
    """All cases, each into a run folder of its name."""
    for case in (*CASES, *SHARDED):
        config = experiment(case, data, out)
        if config.run.weights:
            write_weights(config.run.weights)
        task = task_named("classification" if case.startswith("classifier") else "detection")(config)
        start(task, case, Console(stderr=True))


def write_weights(path: Path) -> None:
    """Weights for a network with frozen norms; every process writes a file of its own and renames it."""
    torch.manual_seed(1)
    path.parent.mkdir(parents=True, exist_ok=True)
    own = path.with_suffix(f".{os.getpid()}")
    torch.save(create_model("botnet50", **SMALL).state_dict(), own)
    own.rename(path)


if __name__ == "__main__":
    torch.set_num_threads(1)
    memory.free_memory = lambda: None  # as in the fixture of the same purpose
    train(*map(Path, sys.argv[1:3]))
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps(CASES))
