"""The named experiments: entries of one table; every field of each can be overridden on the command line."""

from dataclasses import replace

from botvision.detection import DetectorConfig
from botvision.errors import UserError
from botvision.models.catalogue import nearest
from botvision.training.config import DataConfig, DetectionExperiment, OptimizerConfig, RunConfig

FULL = DetectionExperiment()
"""Mask R-CNN as the paper trains it: 1024 pixels, batches of 64, the 1x schedule (paper, Section 4.1)."""

SMALL = DetectionExperiment(
    # The same code with fewer and narrower blocks, for a processor.
    model=DetectorConfig(
        depths=(1, 1, 1, 1),
        width=32,
        input_size=256,
        norm_momentum=0.1,  # a run of hundreds of steps has to get its statistics from the last tens
        fpn_channels=64,
        anchor_scale=4.0,  # at a quarter of the size, objects are a quarter as large
        rpn_box_weight=10.0,
        proposals_before_nms=(1000, 1000),
        proposals=(300, 300),
        roi_samples=64,
        box_head_width=256,
        mask_head_width=64,
    ),
    data=DataConfig(workers=1),
    optimizer=OptimizerConfig(lr=1.28, warmup_lr=0.0067, warmup_steps=100, decay_at=(0.8, 0.95), clip_norm=10.0),
    run=RunConfig(batch_size=4, steps=500, precision="float32", device="cpu", threads=1, save_every=100),
)

DEMO = replace(
    SMALL,
    model=replace(
        SMALL.model,
        width=16,
        input_size=128,
        anchor_scale=8.0,
        proposals_before_nms=(500, 500),
        proposals=(200, 200),
        roi_samples=32,
    ),
    optimizer=replace(SMALL.optimizer, lr=0.32),
    run=replace(SMALL.run, batch_size=8, steps=700, eval_every=700),
)

EXPERIMENTS: dict[str, tuple[str, DetectionExperiment]] = {
    "coco/botnet50": ("BoTNet-50 Mask R-CNN on COCO, the paper's settings, 1x schedule (Table 2)", FULL),
    "coco/resnet50": (
        "the ResNet-50 beside it (Table 2)",
        replace(FULL, model=replace(FULL.model, backbone="resnet50")),
    ),
    "small/botnet50": ("a small BoTNet at 256 pixels, for a processor and a few hundred images", SMALL),
    "small/resnet50": (
        "the small ResNet beside it",
        replace(SMALL, model=replace(SMALL.model, backbone="resnet50")),
    ),
    "demo/botnet50": ("what `botvision demo` trains on generated images of 128 pixels", DEMO),
}


def find_experiment(name: str) -> DetectionExperiment:
    """The experiment of a name.

    Raises:
        UserError: there is none; the nearest names are given.
    """
    if name not in EXPERIMENTS:
        raise UserError(f"unknown experiment {name!r}{nearest(name, list(EXPERIMENTS))}")
    return EXPERIMENTS[name][1]
