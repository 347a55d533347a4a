"""The rows of the paper against what it prints, typed here once more."""

import json
from itertools import product
from pathlib import Path

import pytest
import torch

from botvision.data import CocoDetection
from botvision.data.loading import collate
from botvision.experiments.paper import TABLES
from botvision.tasks.detection import MaskRCNN
from botvision.tasks.detection.training_images import TrainingImages
from botvision.tasks.detection.transforms import eval_transform
from botvision.training.schedule import sgd

PUBLISHED = Path(__file__).parents[3] / "shared" / "reference" / "published.json"

DETECTION = """
table2/resnet50_1x             resnet50          - 12 0.8 1.25 1024 39.0 35.0
table2/botnet50_1x             botnet50          - 12 0.8 1.25 1024 39.4 35.3
table2/resnet50_2x             resnet50          - 24 0.8 1.25 1024 41.2 36.9
table2/botnet50_2x             botnet50          - 24 0.8 1.25 1024 42.8 38.0
table2/resnet50_3x             resnet50          - 36 0.8 1.25 1024 42.1 37.7
table2/botnet50_3x             botnet50          - 36 0.8 1.25 1024 43.6 38.9
table2/resnet50_6x             resnet50          - 72 0.8 1.25 1024 42.8 37.9
table2/botnet50_6x             botnet50          - 72 0.8 1.25 1024 43.7 38.7
table3/resnet50_0.8-1.25       resnet50          - 72 0.8 1.25 1024 42.8 37.9
table3/botnet50_0.8-1.25       botnet50          - 72 0.8 1.25 1024 43.7 38.7
table3/resnet50_0.5-2.0        resnet50          - 72 0.5 2.0  1024 43.7 39.1
table3/botnet50_0.5-2.0        botnet50          - 72 0.5 2.0  1024 45.3 40.5
table3/resnet50_0.1-2.0        resnet50          - 72 0.1 2.0  1024 43.8 39.2
table3/botnet50_0.1-2.0        botnet50          - 72 0.1 2.0  1024 45.9 40.7
table4/resnet50                resnet50          - 36 0.8 1.25 1024 42.1 37.7
table4/botnet50_qk             botnet50         qk 36 0.8 1.25 1024 42.7 38.3
table4/botnet50_qr_relative    botnet50    qr_relative 36 0.8 1.25 1024 43.1 38.4
table4/botnet50_qk_qr_relative botnet50          - 36 0.8 1.25 1024 43.6 38.9
table4/botnet50_qk_qr_absolute botnet50 qk+qr_absolute 36 0.8 1.25 1024 42.5 38.1
table5/resnet50                resnet50          - 36 0.8 1.25 1024 42.1 37.7
table5/botnet50                botnet50          - 36 0.8 1.25 1024 43.6 38.9
table5/resnet101               resnet101         - 36 0.8 1.25 1024 43.3 38.4
table5/botnet101               botnet101         - 36 0.8 1.25 1024 45.5 40.4
table5/resnet152               resnet152         - 36 0.8 1.25 1024 44.2 39.1
table5/botnet152               botnet152         - 36 0.8 1.25 1024 46.0 40.6
table6/resnet50_1280           resnet50          - 72 0.1 2.0  1280 44.0 39.5
table6/botnet50_1024           botnet50          - 72 0.1 2.0  1024 45.9 40.7
table6/botnet50_1280           botnet50          - 72 0.1 2.0  1280 46.1 41.2
table6/resnet101_1280          resnet101         - 72 0.1 2.0  1280 46.4 41.2
table6/botnet101_1024          botnet101         - 72 0.1 2.0  1024 47.4 42.0
table6/botnet101_1280          botnet101         - 72 0.1 2.0  1280 47.9 42.4
table7/resnet50                resnet50          - 36 0.8 1.25 1024 42.1 37.7
table7/resnet50_nl_c4          resnet50_nl_c4    - 36 0.8 1.25 1024 43.1 38.4
table7/resnet50_bot_c4         resnet50_bot_c4   - 36 0.8 1.25 1024 43.7 38.9
table7/resnet50_bot_c4c5       resnet50_bot_c4c5 - 36 0.8 1.25 1024 44.9 39.7
table7/botnet50                botnet50          - 36 0.8 1.25 1024 43.6 38.9
table8/botnet152               botnet152         - 72 0.1 2.0  1280 49.5 71.0 54.2 43.7 68.2 47.4
table8/botnet200               botnet200         - 72 0.1 2.0  1280 49.7 71.3 54.6 44.4 68.9 48.2
"""
"""Row, backbone, attention (- for the default, qk+qr_relative), epochs, jitter, pixels, AP of boxes and masks.

Of Table 8 AP, AP50 and AP75 of each."""
BOX_AND_MASK = ("box_ap", "mask_ap")
ALL_AP = ("box_ap", "box_ap50", "box_ap75", "mask_ap", "mask_ap50", "mask_ap75")

OTHERS = {
    "table1/resnet50": {"params": 25.5, "madds": 85.4, "tpu_step_ms": 786.5},
    "table1/botnet50": {"params": 20.8, "madds": 102.98, "tpu_step_ms": 1032.66},
    "table9/resnet50": {"params": 25.5, "madds": 3.86, "top1": 76.8},
    "table9/botnet50": {"params": 20.8, "madds": 3.79, "top1": 77.0},
    "table9/botnet50_s1": {"params": 20.8, "madds": 4.27, "top1": 77.7},
    "table10/resnet50": {"top1": 77.7, "top5": 93.9},
    "table10/botnet50": {"top1": 78.3, "top5": 94.2},
    "table10/botnet50_s1": {"top1": 79.1, "top5": 94.4},
    "figure5/botnet_t3": {"params": 33.5, "madds": 7.3, "top1": 81.7},
    "figure5/botnet_t4": {"params": 54.7, "madds": 10.9, "top1": 82.8},
    "figure5/botnet_t5": {"params": 75.1, "madds": 19.3, "top1": 83.5},
    "figure5/botnet_t6": {"params": 53.9, "madds": 23.3, "top1": 84.0},
    "figure5/botnet_t7": {"params": 75.1, "madds": 45.8, "top1": 84.7},
    **{f"figure5/senet_s{number}": {"top1": None} for number in range(1, 5)},
    "figure5/senet_s5": {"top1": 83.8},
}

ROWS = {f"{key}/{name}": row for key, table in TABLES.items() for name, row in table.rows.items()}


def typed_rows():
    """Name, settings and scores of the rows typed above."""
    for line in DETECTION.strip().splitlines():
        name, backbone, attention, epochs, low, high, size, *scores = line.split()
        settings = (
            backbone,
            None if attention == "-" else attention,
            int(epochs),
            (float(low), float(high)),
            int(size),
        )
        figures = BOX_AND_MASK if len(scores) == 2 else ALL_AP
        yield name, settings, dict(zip(figures, map(float, scores), strict=True))


def settings_of(row):
    config = row.experiment.config
    return (
        config.model.backbone,
        config.model.attention,
        config.run.epochs,
        config.data.jitter,
        config.model.input_size,
    )


def test_every_row_has_the_published_settings_and_figures():
    typed = list(typed_rows())
    assert {name: (settings_of(ROWS[name]), dict(ROWS[name].published)) for name, _, _ in typed} == {
        name: (settings, scores) for name, settings, scores in typed
    }
    rest = {name: dict(row.published) for name, row in ROWS.items() if name not in {name for name, _, _ in typed}}
    assert rest == OTHERS


def test_rows_of_detection_change_nothing_else_of_the_canonical_experiment():
    first = ROWS["table2/botnet50_1x"].experiment.config
    assert (first.run.batch_size, first.run.precision, first.optimizer.lr) == (64, "bfloat16", 0.08)
    for name, (backbone, attention, epochs, jitter, size), _ in typed_rows():
        depth = backbone.partition("_")[0].removeprefix("botnet").removeprefix("resnet")
        weights = None if depth == "200" else Path(f"torchvision/resnet{depth}.IMAGENET1K_V1")  # footnote 6
        changes = {"backbone": backbone, "attention": attention, "input_size": size}
        assert ROWS[name].experiment.config == first.replace(
            model=first.model.replace(**changes),
            data=first.data.replace(jitter=jitter),
            run=first.run.replace(epochs=epochs, weights=weights),
        )


@pytest.mark.skipif(not PUBLISHED.exists(), reason="needs ../shared/reference/published.json")
def test_rows_are_those_of_the_published_figures():
    """Of every table of the file the same rows in the same order, each with all the numbers that the file has."""
    published = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    files = {key.partition("_")[0]: table for key, table in published.items() if key.startswith(("table", "figure5"))}
    assert files.keys() == TABLES.keys()
    for key, table in files.items():
        rows = [row for row in TABLES[key].rows.values() if any(value is not None for value in row.published.values())]
        expected = [{**published["canonical"], **table, **row} for row in table["rows"]]
        for row, wanted in zip(rows, expected, strict=True):
            numbers = ("params", "madds", "tpu_step_ms", "top1", "top5", *ALL_AP)
            assert dict(row.published) == {name: wanted[name] for name in numbers if name in wanted}
            assert row.input_size == wanted["input"]
            if row.experiment and row.experiment.task == "detection":
                backbone, attention, epochs, jitter, _ = settings_of(row)
                assert (backbone, epochs, list(jitter)) == (wanted["backbone"], wanted["epochs"], wanted["jitter"])
                assert wanted.get("attention") in (attention, row.network.attention)
            elif row.experiment:
                assert row.experiment.config.model.model == wanted.get("backbone", wanted.get("model"))
                assert row.experiment.config.run.epochs == wanted["epochs"] if key != "figure5" else 350


def small_versions(tiny):
    """The rows of detection with few and narrow blocks, those of the same network once."""
    found = {}
    for name, row in ROWS.items():
        if row.experiment and row.experiment.task == "detection":
            model = row.experiment.config.model
            small = tiny.replace(backbone=model.backbone, attention=model.attention, depths=(1, 1, 2, 2))
            found.setdefault(small.network().model_dump_json(), (name, small))
    return dict(found.values())


def test_each_kind_of_network_trains_all_of_its_weights(shapes, tiny):
    """At a small size: the ResNet, the BoTNet with four kinds of attention, and three with inserted blocks."""
    images = TrainingImages(CocoDetection(shapes, "train", eval_transform(tiny.input_size)), 0.0, 100)
    batch = collate([images[index] for index in range(4)])
    targets, versions = batch["targets"], small_versions(tiny)
    layers = {}
    for name, config in versions.items():
        torch.manual_seed(0)
        model = MaskRCNN(config, 6).train()
        before = {key: value.clone() for key, value in model.trunk.named_parameters()}
        optimizer = sgd(model, lr=0.1, batch_size=64, reference_batch=64, momentum=0.9, weight_decay=0)
        for _ in range(2):  # the last norm of each block starts at 0, and lets nothing through in the first step
            losses = model(batch["images"], [target["content_size"] for target in targets], targets)
            loss = sum(value for key, value in losses.items() if key != "proposal_recall")
            assert loss.isfinite(), name
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert [key for key, value in model.trunk.named_parameters() if torch.equal(value, before[key])] == [], name
        layers[name] = {(key.partition(".mhsa.")[0], key.rpartition(".")[2]) for key in before if ".mhsa." in key}
    c5, relative = ("layer4.0", "layer4.1"), ("weight", "rel_height", "rel_width")
    assert sorted(layers.values(), key=sorted) == sorted(
        [
            set(),
            set(product(c5, ("weight",))),
            set(product(c5, relative)),  # with content, and without
            set(product(c5, relative)),
            set(product(c5, ("weight", "abs_height", "abs_width"))),
            {("layer3.inserted", "weight")},  # Non-Local
            set(product(["layer3.inserted"], relative)),
            set(product(["layer3.inserted", "layer4.inserted"], relative)),
        ],
        key=sorted,
    )
