"""The named experiments: entries of one table; every field of each can be overridden on the command line."""

from pathlib import Path

from botvision.errors import UserError
from botvision.experiments.experiment import Experiment
from botvision.experiments.paper import FULL, TABLES
from botvision.experiments.recipes import classifier
from botvision.models.catalogue import CATALOGUE, nearest
from botvision.tasks.detection.config import (
    DetectionData,
    DetectionExperiment,
    DetectionOptimizer,
    DetectorConfig,
    DetrConfig,
    DetrOptimizer,
)
from botvision.training.config import RunConfig

SMALL = DetectionExperiment(
    # The same code with fewer and narrower blocks, for a CPU.
    model=DetectorConfig(
        depths=(1, 1, 1, 1),
        width=32,
        input_size=256,
        norm_momentum=0.1,  # a run of hundreds of steps has to get its statistics from the last tens
        head_norm=True,  # such a run learns sooner with it
        fpn_channels=64,
        anchor_scale=4.0,  # at a quarter of the size, objects are a quarter as large
        rpn_box_weight=10.0,
        proposals_before_nms=(1000, 1000),
        proposals=(300, 300),
        roi_samples=64,
        box_head_width=256,
        mask_head_width=64,
        keypoint_head_width=64,
        keypoint_head_depth=4,
        score_threshold=0.0,  # the first guesses of a short run score less than 0.05
    ),
    data=DetectionData(workers=1),
    optimizer=DetectionOptimizer(lr=1.28, warmup_lr=0.0067, warmup_steps=100, decay_at=(0.8, 0.95)),
    run=RunConfig(batch_size=4, steps=500, precision="float32", threads=1, save_every=100, clip_norm=10),
)

DEMO = SMALL.replace(
    model=SMALL.model.replace(
        width=16,
        input_size=128,
        anchor_scale=8.0,
        proposals_before_nms=(500, 500),
        proposals=(200, 200),
        roi_samples=32,
    ),
    optimizer=SMALL.optimizer.replace(lr=0.32),
    run=SMALL.run.replace(batch_size=8, steps=700, eval_every=700),
)

CONTEXT = DEMO.replace(
    # Scenes of `botvision paper context`: small squares, and no change of scale, which would bring far things near.
    # With SGD and a quarter of objects among the regions, no detector learned more than where the objects are.
    model=DEMO.model.replace(
        detector="faster_rcnn",
        input_size=192,
        anchor_scale=4.0,
        anchor_ratios=(1.0,),
        roi_samples=16,
        roi_foreground=0.5,
    ),
    data=DEMO.data.replace(jitter=(1.0, 1.0), workers=0),
    optimizer=DEMO.optimizer.replace(optimizer="adamw", lr=2e-3, warmup_lr=0.0),
    run=DEMO.run.replace(batch_size=16, steps=400, eval_every=400, log_every=50, device="cpu"),
)

FINETUNE = DetectionExperiment(
    # For 30 to 500 photographs: everything that weights of torchvision's ResNet-50 or Mask R-CNN hold is used, so the
    # variant, the order of anchors and the epsilon are torchvision's. Batch norm follows in tens of steps.
    model=DetectorConfig(
        backbone="resnet50",
        input_size=512,
        freeze_stem=True,
        variant="torchvision",
        norm_epsilon=1e-5,
        norm_momentum=0.1,
        anchor_ratios=(0.5, 1.0, 2.0),
    ),
    data=DetectionData(workers=1),
    optimizer=DetectionOptimizer(warmup_steps=100, decay_at=(0.75, 0.92)),
    run=RunConfig(weights=Path("torchvision/resnet50"), batch_size=4, steps=1000, precision="float32", eval_every=250),
)

FULL_DETR = DetectionExperiment(
    # The schedule of 300 epochs of its authors.
    model=DetrConfig(),
    optimizer=DetrOptimizer(),
    run=RunConfig(epochs=300, clip_norm=0.1),
)

SMALL_DETR = SMALL.replace(
    model=DetrConfig(
        depths=(1, 1, 1, 1),
        width=32,
        input_size=256,
        norm_momentum=0.1,
        hidden=128,
        encoder_layers=2,
        decoder_layers=3,
        feed_forward=256,
        queries=50,
        dropout=0.0,
    ),
    optimizer=DetrOptimizer(lr=1e-3, backbone_lr=1e-3, warmup_steps=50, decay_at=(0.8,)),
    run=SMALL.run.replace(steps=2000, clip_norm=1.0),
)


def detection(what: str, config: DetectionExperiment, **changes: str) -> Experiment:
    """A detection experiment, with some fields of its model changed."""
    changed = config.replace(model=config.model.replace(**changes))
    return Experiment(what, "detection", lambda options: changed)


FINETUNE_WHAT = "for 30 to 500 photographs: 512 pixels, from pretrained weights, stem and c2 frozen"
IMAGENET_WHAT = "any model on images in folders, 100 epochs; see the option recipe"
EXPERIMENTS: dict[str, Experiment] = {
    "coco/botnet50": detection("BoTNet-50 Mask R-CNN on COCO, the paper's settings, 1x schedule (Table 2)", FULL),
    "coco/resnet50": detection("the ResNet-50 beside it (Table 2)", FULL, backbone="resnet50"),
    "coco/faster_botnet50": detection("BoTNet-50 Faster R-CNN, boxes alone", FULL, detector="faster_rcnn"),
    "coco/keypoint_botnet50": detection("BoTNet-50 Keypoint R-CNN: people's joints", FULL, detector="keypoint_rcnn"),
    "coco/detr_botnet50": detection("BoTNet-50 DETR, boxes alone, 300 epochs (Carion et al. 2020)", FULL_DETR),
    "finetune/botnet50": detection(FINETUNE_WHAT, FINETUNE, backbone="botnet50"),
    "finetune/resnet50": detection(FINETUNE_WHAT, FINETUNE),
    "small/botnet50": detection("a small BoTNet at 256 pixels, for a CPU and a few hundred images", SMALL),
    "small/resnet50": detection("the small ResNet beside it", SMALL, backbone="resnet50"),
    "small/faster_botnet50": detection("the small BoTNet, boxes alone", SMALL, detector="faster_rcnn"),
    "small/keypoint_botnet50": detection("the small BoTNet, boxes and keypoints", SMALL, detector="keypoint_rcnn"),
    "small/detr_botnet50": detection("a small BoTNet DETR", SMALL_DETR),
    "demo/botnet50": detection("what `botvision demo` trains on generated images of 128 pixels", DEMO),
    "context/botnet50": detection("what `botvision paper context` trains: the class is a far cue's colour", CONTEXT),
    "context/resnet50": detection("the ResNet beside it, which does not see the cue", CONTEXT, backbone="resnet50"),
    **{f"imagenet/{model}": classifier(model, None, IMAGENET_WHAT) for model in CATALOGUE},
    **{row: entry for table in TABLES.values() for row, entry in table.experiments()},
}


def find_experiment(name: str) -> Experiment:
    """The experiment of a name.

    Raises:
        UserError: there is none; the nearest names are given, or how those of its group continue.
    """
    group = name.partition("/")[0]
    if group in TABLES and name not in EXPERIMENTS:
        raise UserError(f"{name} is no row that can be trained; botvision paper {group} lists the rows of {group}")
    if any(known.startswith(f"{name}/") for known in EXPERIMENTS):
        raise UserError(
            f"{name} needs a model: {name}/MODEL; botvision models lists them, botvision train those of {name}"
        )
    if name not in EXPERIMENTS:
        raise UserError(f"unknown experiment {name!r}{nearest(name, list(EXPERIMENTS), 'botvision train')}")
    return EXPERIMENTS[name]
