"""The paper's claim on a processor: attention gains because it relates things that lie far apart.

The paper shows it by Tables 4, 5 and 7, for which a cluster trains for weeks. Here the class of an object is the colour
of a cue elsewhere in a generated image, farther away than the convolutions of a small network reach. A linear layer
reads the class off the map c5, at the cell of the object. Some rows have two blocks in c4, because Table 7 inserts a
block between two. Its insertion into both c4 and c5 is left out: with two blocks in c5 as well, the convolutions see
171 pixels, and images would need several times as many pixels.

The predictions were written down before the first run of the table:

- A ResNet stays at chance, one of four colours, where the cue is far, and solves the control, where it is near.
- Attention by content alone ("qk", Non-Local) finds the colour of the one cue. Of four cues it gets all colours, but
  not which is on the left: at best it answers with the most frequent one, right in 53.1 % of the scenes.
- Relative positions solve both. Absolute positions do as well here, because the object is always in the middle.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from botvision.configuration import Config, Count, Positive
from botvision.data.scene_kinds import COLOURS, SCENES, VERSION
from botvision.errors import UserError
from botvision.experiments.catalogue import EXPERIMENTS
from botvision.files import write_text
from botvision.models import NetworkConfig, model_config

CHANCE = 1 / len(COLOURS)
MOST_FREQUENT = 17 / 32
"""How often the left of four cues has the most frequent of their colours, which are independent."""
DETECT = "detect"
"""Column of the detectors, trained by the ordinary loop on the scenes "what"; their score is the AP50 of boxes."""
COLUMNS = {**{name: kind.description for name, kind in SCENES.items()}, DETECT: "detectors on what: box AP50"}

Predicted = Literal["chance", "most frequent", "solved"]


@dataclass(frozen=True)
class ContextRow:
    """A network of the table."""

    network: NetworkConfig
    predicted: dict[str, Predicted]
    """What it should reach in each column."""
    detector: str | None = None
    """Experiment that trains a detector on it."""


def row(
    what: Predicted,
    which: Predicted,
    model: str,
    *,
    c4: int = 1,
    detector: str | None = None,
    **fields: Any,  # noqa: ANN401
) -> ContextRow:
    """A model of the catalogue with one block a stage, or ``c4`` in c4, a quarter as wide."""
    network = model_config(model, depths=(1, 1, c4, 1), width=16, input_size=SCENES["which"].image_size, **fields)
    return ContextRow(network, {"what": what, "which": which, "near": "solved", DETECT: what}, detector)


ROWS: dict[str, ContextRow] = {
    "resnet": row("chance", "chance", "resnet50", detector="context/resnet50"),
    "botnet_qk": row("solved", "most frequent", "botnet50", attention="qk"),
    "botnet_qr_relative": row("solved", "solved", "botnet50", attention="qr_relative"),
    "botnet_qk_qr_relative": row("solved", "solved", "botnet50", detector="context/botnet50"),
    "botnet_qk_qr_absolute": row("solved", "solved", "botnet50", attention="qk+qr_absolute"),
    "lambda": row("solved", "solved", "resnet50", spatial={"c5": "lambda_global"}),
    "resnet_c4x2": row("chance", "chance", "resnet50", c4=2),
    "resnet_nl_c4": row("solved", "most frequent", "resnet50_nl_c4", c4=2),
    "resnet_bot_c4": row("solved", "solved", "resnet50_bot_c4", c4=2),
}
"""The kinds of Table 4 and a lambda layer in the place of c5's convolution; then insertion as in Table 7."""


class ContextRecipe(Config):
    """How each network is trained, all of them alike."""

    steps: Count = 500
    """Optimiser steps; every step has new images."""
    batch_size: Count = 16
    """Images in a step."""
    lr: Positive = 2e-3
    """Largest learning rate of AdamW; it rises for a fifth of the steps, and then falls (Smith and Topin 2018)."""
    test_images: Count = 512
    """Images that the accuracy is measured on, drawn apart from the training images."""


@dataclass(frozen=True)
class Cell:
    """One training: a network, a kind of scene or the detectors, a seed."""

    row: str
    column: str
    seed: int


def scenes_and_networks() -> str:
    """A digest of what decides the numbers beside the recipe, the settings of the detectors included."""
    scenes = {name: asdict(kind) for name, kind in SCENES.items()}
    networks = {name: entry.network.plain() for name, entry in ROWS.items()}
    names = [entry.detector for entry in ROWS.values() if entry.detector]
    detectors = {name: EXPERIMENTS[name].config.plain() for name in names}
    return hashlib.sha256(json.dumps([VERSION, scenes, networks, detectors]).encode()).hexdigest()[:16]


MEASURED = ("score", "seconds")
"""Share of the test images whose class is found, or AP50; and time of the training."""


@dataclass
class Results:
    """What was trained so far, in a file that grows by one cell at a time."""

    file: Path
    recipe: ContextRecipe
    cells: dict[Cell, dict[str, float]] = field(default_factory=dict)
    """By names of ``MEASURED``."""

    def read(self) -> None:
        """Take what an earlier call left.

        Raises:
            UserError: it is damaged, or of another recipe, other scenes or networks.
        """
        if not self.file.exists():
            return
        try:
            content = json.loads(self.file.read_text(encoding="utf-8"))
            recipe, scenes = ContextRecipe(**content["recipe"]), content.get("scenes_and_networks")
            self.cells = {
                Cell(cell["row"], cell["column"], cell["seed"]): {key: float(cell[key]) for key in MEASURED}
                for cell in content["cells"]
            }
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{self.file} is damaged; delete it or choose another folder") from error
        if recipe != self.recipe:
            raise UserError(f"{self.file} is of other settings ({recipe}); choose another folder")
        if scenes != scenes_and_networks():
            raise UserError(
                f"{self.file} is of other scenes or networks, made by another version; choose another folder"
            )

    def add(self, cell: Cell, measured: dict[str, float]) -> None:
        """Keep a finished cell, in memory and on disk."""
        self.cells[cell] = measured
        write_text(self.file, json.dumps(self.plain(), indent=1) + "\n")

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        cells = [{**asdict(cell), **measured} for cell, measured in self.cells.items()]
        return {"recipe": self.recipe.plain(), "scenes_and_networks": scenes_and_networks(), "cells": cells}
