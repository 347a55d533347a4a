"""The paper as data: what every row of its Tables 1 to 10 and of Figure 5 trains, and what is printed there.

A row of Tables 2 to 10 and Figure 5 is an experiment named table/row, such as ``table4/botnet50_qk``; Table 1 has
costs alone.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from botvision.experiments.experiment import Experiment
from botvision.experiments.recipes import classifier
from botvision.models import CATALOGUE, NetworkConfig
from botvision.models.catalogue import LONGER
from botvision.models.config import Attention
from botvision.models.stages import network_cost
from botvision.tasks.detection.config import DetectionExperiment

FULL = DetectionExperiment()
"""Mask R-CNN as the paper trains it: 1024 pixels, batches of 64, the 1x schedule (paper, Section 4.1)."""
CANONICAL_EPOCHS = 36
"""Of the setting that the paper calls canonical, with 1024 pixels and jitter 0.8 to 1.25 (footnote 9)."""
WIDEST_JITTER = (0.1, 2.0)
NO_WEIGHTS = (
    "The paper starts from an ImageNet ResNet-200, of which neither torchvision nor timm has weights. This row starts "
    "at random; after botvision train imagenet/resnet200, add --weights runs/imagenet-resnet200."
)

DATA_SETS = {"detection": ("COCO", 118_287), "classification": ("ImageNet", 1_281_167)}
"""What the paper trains a task on, and the number of its training images."""


@dataclass(frozen=True)
class Figure:
    """A kind of number in the tables."""

    label: str
    unit: str = ""
    decimals: int = 1
    scale: float = 100
    """The paper's number over ours."""

    def show(self, value: float, printed: bool = False) -> str:
        """A number in the paper's unit; a cost that is ``printed`` there has no more decimals than there."""
        digits = f"{value:g}" if printed and self.unit else f"{value:.{self.decimals}f}"
        return f"{self.label} {digits}{self.unit}"


FIGURES: dict[str, Figure] = {
    "params": Figure("parameters", " M", 2, 1e-6),
    "madds": Figure("multiply-adds", " G", 2, 1e-9),
    "tpu_step_ms": Figure("TPU step", " ms"),
    "box_ap": Figure("box AP"),
    "box_ap50": Figure("box AP50"),
    "box_ap75": Figure("box AP75"),
    "mask_ap": Figure("mask AP"),
    "mask_ap50": Figure("mask AP50"),
    "mask_ap75": Figure("mask AP75"),
    "top1": Figure("top-1"),
    "top5": Figure("top-5"),
}
"""Every figure in the tables; AP and accuracy are in percent."""
COSTS = ("params", "madds")
"""Figures that are counted; no run is needed."""


@dataclass(frozen=True)
class Row:
    """One row of a table."""

    network: NetworkConfig
    input_size: int
    """Image height and width, in pixels."""
    published: Mapping[str, float | None]
    """By names of :data:`FIGURES`, in their units; None where the paper draws a point without a number."""
    experiment: Experiment | None = None
    """What the row trains; None where it is about cost alone."""
    note: str = ""
    """What differs from the paper, and why."""

    def count(self) -> dict[str, int]:
        """Parameters of the network with 1000 classes, and multiply-adds of an image, by the names of :data:`COSTS`."""
        cost = network_cost(self.network, self.input_size, self.input_size)
        return {"params": cost.parameters, "madds": cost.multiply_adds}

    @property
    def steps(self) -> int:
        """Optimiser steps of the experiment on the paper's data set; 0 where there is none."""
        return self.experiment.config.run.total_steps(DATA_SETS[self.experiment.task][1]) if self.experiment else 0


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper, or Figure 5."""

    key: str
    """Such as "table4"."""
    title: str
    rows: Mapping[str, Row]

    @property
    def heading(self) -> str:
        """Such as "Table 4"."""
        return self.key.replace("table", "Table ").replace("figure", "Figure ")

    def experiments(self) -> Iterator[tuple[str, Experiment]]:
        """The experiments of the rows, by their names."""
        for name, row in self.rows.items():
            if row.experiment:
                what = f"{self.title} ({self.heading})"
                yield f"{self.key}/{name}", replace(row.experiment, description=what, details=partial(expect, row))


def expect(row: Row) -> str:
    """What the paper prints for a row, and what a run of it costs."""
    printed = [FIGURES[name].show(value, printed=True) for name, value in row.published.items() if value is not None]
    sentences = [f"Published: {', '.join(printed)}."] if printed else []
    if row.experiment:
        madds = FIGURES["madds"].show(row.count()["madds"] / 1e9)
        batch, (data, _) = row.experiment.config.run.batch_size, DATA_SETS[row.experiment.task]
        sentences += [
            f"Cost: {madds} in the forward pass of {'the backbone' if 'box_ap' in row.published else 'the network'} "
            f"for an image of {row.input_size} pixels; {batch} images a step, {row.steps:,} steps on {data}."
        ]
    costs = (other for other in TABLES["table1"].rows.values() if row.network == other.network)
    for other in costs if row.input_size == FULL.model.input_size else ():
        sentences.append(f"The authors' step took {other.published['tpu_step_ms']:g} ms on a TPU v3-8 (Table 1).")
    return " ".join([*sentences, row.note])


def detector(
    backbone: str,
    *scores: float,
    epochs: float = CANONICAL_EPOCHS,
    jitter: tuple[float, float] = FULL.data.jitter,
    input_size: int = FULL.model.input_size,
    attention: Attention | None = None,
) -> Row:
    """Mask R-CNN on COCO, from weights of the ResNet of the same depth (paper, Section 4 and footnote 6).

    ``scores`` are AP of boxes and masks, or AP, AP50 and AP75 of both.
    """
    resnet = backbone.partition("_")[0].replace("botnet", "resnet")
    known = resnet != "resnet200"
    config = FULL.replace(
        model=FULL.model.replace(backbone=backbone, input_size=input_size, attention=attention),
        data=FULL.data.replace(jitter=jitter),
        run=FULL.run.replace(epochs=epochs, weights=Path(f"torchvision/{resnet}.IMAGENET1K_V1") if known else None),
    )
    ap = [name for name in FIGURES if "_ap" in name]
    published = dict(zip(ap if len(scores) == len(ap) else ("box_ap", "mask_ap"), scores, strict=True))
    experiment = Experiment("", "detection", lambda options: config)
    network = CATALOGUE[backbone].config.replace(**({"attention": attention} if attention else {}))
    return Row(network, input_size, published, experiment, "" if known else NO_WEIGHTS)


def classified(model: str, recipe: str, source: str = "", **scores: float | None) -> Row:
    """A classifier on ImageNet, with the costs that the paper prints at ``source``."""
    row = cost(model, source)
    return replace(row, published={**row.published, **scores}, experiment=classifier(model, recipe, ""))


def cost(model: str, source: str, **more: float) -> Row:
    """A model of the catalogue with its costs as the paper prints them at ``source``, and more figures."""
    entry = CATALOGUE[model]
    printed = [found for found in entry.published if found.source == source]
    published = {name: getattr(found, name) for found in printed for name in COSTS}
    size = printed[0].input_size if printed else entry.config.image_size[0]
    return Row(entry.config, size, {**published, **more}, note="; ".join(found.why for found in printed))


def tables(*made: tuple[str, str, dict[str, Row]]) -> dict[str, PaperTable]:
    """Tables by their keys."""
    return {key: PaperTable(key, title, rows) for key, title, rows in made}


TABLES = tables(
    (
        "table1",
        "Cost at 1024 pixels",
        {
            "resnet50": cost("resnet50", "Table 1", tpu_step_ms=786.5),
            "botnet50": cost("botnet50", "Table 1", tpu_step_ms=1032.66),
        },
    ),
    (
        "table2",
        "Mask R-CNN on COCO by length of training: 12, 24, 36, 72 epochs",
        {
            "resnet50_1x": detector("resnet50", 39.0, 35.0, epochs=12),
            "botnet50_1x": detector("botnet50", 39.4, 35.3, epochs=12),
            "resnet50_2x": detector("resnet50", 41.2, 36.9, epochs=24),
            "botnet50_2x": detector("botnet50", 42.8, 38.0, epochs=24),
            "resnet50_3x": detector("resnet50", 42.1, 37.7),
            "botnet50_3x": detector("botnet50", 43.6, 38.9),
            "resnet50_6x": detector("resnet50", 42.8, 37.9, epochs=72),
            "botnet50_6x": detector("botnet50", 43.7, 38.7, epochs=72),
        },
    ),
    (
        "table3",
        "Mask R-CNN on COCO by scale jitter, 72 epochs",
        {
            "resnet50_0.8-1.25": detector("resnet50", 42.8, 37.9, epochs=72),
            "botnet50_0.8-1.25": detector("botnet50", 43.7, 38.7, epochs=72),
            "resnet50_0.5-2.0": detector("resnet50", 43.7, 39.1, epochs=72, jitter=(0.5, 2.0)),
            "botnet50_0.5-2.0": detector("botnet50", 45.3, 40.5, epochs=72, jitter=(0.5, 2.0)),
            "resnet50_0.1-2.0": detector("resnet50", 43.8, 39.2, epochs=72, jitter=WIDEST_JITTER),
            "botnet50_0.1-2.0": detector("botnet50", 45.9, 40.7, epochs=72, jitter=WIDEST_JITTER),
        },
    ),
    (
        "table4",
        "Mask R-CNN on COCO by kind of attention, 36 epochs",
        {
            "resnet50": detector("resnet50", 42.1, 37.7),
            "botnet50_qk": detector("botnet50", 42.7, 38.3, attention="qk"),
            "botnet50_qr_relative": detector("botnet50", 43.1, 38.4, attention="qr_relative"),
            "botnet50_qk_qr_relative": detector("botnet50", 43.6, 38.9),
            "botnet50_qk_qr_absolute": detector("botnet50", 42.5, 38.1, attention="qk+qr_absolute"),
        },
    ),
    (
        "table5",
        "Mask R-CNN on COCO by depth of the backbone, 36 epochs",
        {
            "resnet50": detector("resnet50", 42.1, 37.7),
            "botnet50": detector("botnet50", 43.6, 38.9),
            "resnet101": detector("resnet101", 43.3, 38.4),
            "botnet101": detector("botnet101", 45.5, 40.4),
            "resnet152": detector("resnet152", 44.2, 39.1),
            "botnet152": detector("botnet152", 46.0, 40.6),
        },
    ),
    (
        "table6",
        "Mask R-CNN on COCO by size of the images, 72 epochs, jitter 0.1 to 2.0",
        {
            f"{backbone}_{size}": detector(backbone, *ap, epochs=72, jitter=WIDEST_JITTER, input_size=size)
            for backbone, size, *ap in (
                ("resnet50", 1280, 44.0, 39.5),
                ("botnet50", 1024, 45.9, 40.7),
                ("botnet50", 1280, 46.1, 41.2),
                ("resnet101", 1280, 46.4, 41.2),
                ("botnet101", 1024, 47.4, 42.0),
                ("botnet101", 1280, 47.9, 42.4),
            )
        },
    ),
    (
        "table7",
        "Mask R-CNN on COCO with blocks inserted or replaced, 36 epochs",
        {
            "resnet50": detector("resnet50", 42.1, 37.7),
            "resnet50_nl_c4": detector("resnet50_nl_c4", 43.1, 38.4),
            "resnet50_bot_c4": detector("resnet50_bot_c4", 43.7, 38.9),
            "resnet50_bot_c4c5": detector("resnet50_bot_c4c5", 44.9, 39.7),
            "botnet50": detector("botnet50", 43.6, 38.9),
        },
    ),
    (
        "table8",
        "Mask R-CNN on COCO at its best: 1280 pixels, 72 epochs, jitter 0.1 to 2.0",
        {
            name: detector(name, *ap, epochs=72, jitter=WIDEST_JITTER, input_size=1280)
            for name, ap in {
                "botnet152": (49.5, 71.0, 54.2, 43.7, 68.2, 47.4),
                "botnet200": (49.7, 71.3, 54.6, 44.4, 68.9, 48.2),
            }.items()
        },
    ),
    (
        "table9",
        "ImageNet in the regular setting, 100 epochs",
        {
            name: classified(name, "regular", "Table 9", top1=top1)
            for name, top1 in {"resnet50": 76.8, "botnet50": 77.0, "botnet50_s1": 77.7}.items()
        },
    ),
    (
        "table10",
        "ImageNet in the improved setting, 200 epochs",
        {
            "resnet50": classified("resnet50", "improved", top1=77.7, top5=93.9),
            "botnet50": classified("botnet50", "improved", top1=78.3, top5=94.2),
            "botnet50_s1": classified("botnet50_s1", "improved", top1=79.1, top5=94.4),
        },
    ),
    (
        "figure5",
        "ImageNet in the scaling setting, 350 epochs",
        {
            name: classified(name, "scaling", LONGER, top1=top1)
            for name, top1 in {
                "botnet_t3": 81.7,
                "botnet_t4": 82.8,
                "botnet_t5": 83.5,
                "botnet_t6": 84.0,
                "botnet_t7": 84.7,
                **dict.fromkeys(("senet_s1", "senet_s2", "senet_s3", "senet_s4")),
                "senet_s5": 83.8,
            }.items()
        },
    ),
)
"""Every table in the order of the paper; figures of Figure 5 are printed in the longer version of the paper alone."""
