"""What the page is told: of a model, of the objects or classes in an image, of the attention at a point."""

import time
from dataclasses import asdict
from typing import Any, NamedTuple

from torch import Tensor

from botvision.data import decode_channels, decode_image, pixels_of
from botvision.errors import UserError
from botvision.layers import MHSA2d
from botvision.pages import jpeg
from botvision.pictures import picture_of
from botvision.tasks.attend import as_seen, attention_block, attention_row, cell_of, check_inside, projections
from botvision.tasks.base import AttentionSource
from botvision.tasks.detection.detections import Detections
from botvision.tasks.predictor import Predictor

SHOWN_SIDE = 1600
"""Pixels of the longer side of an image on the page."""
LEAST_SCORE = 0.05
"""Objects that score less are not sent to the page, whose threshold starts there."""
TOP = 10
"""Likeliest classes that are named."""


class Seen(NamedTuple):
    """The image that was last looked into: from one point after the other it is the same one."""

    encoded: bytes
    size: tuple[int, int]
    """(H, W)."""
    projected: dict[str, Tensor]
    """By the name of the block, see :func:`~botvision.tasks.attend.projections`."""


class Answers:
    """A model that answers the page, in one thread at a time.

    Attributes:
        predictor: the model.
        source: its network, to look into the attention; None where it has none.
        blocks: the attention layers by the names of their blocks, from the image on.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.source: AttentionSource | None = None
        self.blocks: dict[str, MHSA2d] = {}
        self.seen: Seen | None = None
        try:
            self.source = predictor.task.attention_source(predictor.trained)
        except UserError:
            return
        layers = self.source.network.named_modules()
        self.blocks = {name.rpartition(".")[0]: layer for name, layer in layers if isinstance(layer, MHSA2d)}

    def about(self) -> dict[str, Any]:
        """The model, its classes and its attention blocks."""
        path = self.predictor.trained.path
        name = path.parents[1].name if path.parent.name == "checkpoints" else path.name
        return {
            "model": f"{name} ({type(self.predictor.model).__name__})",
            "classes": list(self.predictor.class_names),
            "blocks": list(self.blocks),
            "least_score": LEAST_SCORE,
        }

    def read(self, encoded: bytes, name: str) -> Tensor:
        """The pixels (C, H, W) of an image file, as the model takes them: RGB, or channels as they are stored.

        Raises:
            UserError: no readable image.
        """
        channels = self.predictor.in_channels
        return decode_channels(encoded, name, channels) if channels else pixels_of(decode_image(encoded, name))

    def predict(self, encoded: bytes, name: str) -> dict[str, Any]:
        """The objects in an image in COCO's results format, or its likeliest classes, and the image as it was seen.

        Raises:
            UserError: no readable image.
        """
        image, started = self.read(encoded, name), time.perf_counter()
        answer: dict[str, Any] = {"height": image.shape[1], "width": image.shape[2]}
        options = {"threshold": LEAST_SCORE} if self.predictor.task.name == "detection" else {"top": TOP}
        found = self.predictor(image, **options)
        if isinstance(found, Detections):
            answer |= {"objects": found.to_coco(), "categories": [asdict(category) for category in found.categories]}
        else:
            answer["classes"] = found.to_dicts()
        answer["seconds"] = time.perf_counter() - started
        return answer | {"picture": jpeg(picture_of(image), SHOWN_SIDE)}

    def attend(self, encoded: bytes, name: str, x: int, y: int, block: str) -> dict[str, Any]:
        """Where each head of an attention block looks from a point of an image, (x, y) in its pixels.

        Returns:
            "heads": for each head the rows of the map, the shares of its attention that each cell has; "cell": the row
            and column of the point.

        Raises:
            UserError: no readable image or a very long one, no such block, or a point outside of the image.
        """
        if self.source is None:
            raise UserError("this model has no network to look into")
        block, layer = attention_block(self.source.network, block[:80])
        seen = self.look_into(self.source, encoded, name)
        check_inside((x, y), seen.size)
        cell = cell_of((x, y), seen.size, seen.projected[block])
        heads = attention_row(layer, seen.projected[block], *cell)
        return {"block": block, "cell": cell, "heads": heads.tolist()}

    def look_into(self, source: AttentionSource, encoded: bytes, name: str) -> Seen:
        """What the attention layers make of an image; kept until another one comes."""
        if self.seen is None or self.seen.encoded != encoded:
            image = self.read(encoded, name)
            layers = list(self.blocks.values())
            found = projections(source.network, layers, as_seen(source, image), source.pixels)
            self.seen = Seen(encoded, (image.shape[1], image.shape[2]), dict(zip(self.blocks, found, strict=True)))
        return self.seen
