"""What the page is told: of a model, of the objects or classes in an image, of the attention at a point."""

import time
from typing import Any

from PIL import Image
from torch import Tensor

from botvision.data import decode_image, pixels_of
from botvision.errors import UserError
from botvision.layers import MHSA2d
from botvision.pages import jpeg
from botvision.tasks.attend import attend_photograph, attention_block
from botvision.tasks.base import AttentionSource
from botvision.tasks.detection.detections import Detections
from botvision.tasks.predictor import Predictor

SHOWN_SIDE = 1600
"""Pixels of the longer side of an image on the page."""
LEAST_SCORE = 0.05
"""Objects that score less are not sent to the page, whose threshold starts there."""
TOP = 10
"""Likeliest classes that are named."""


class Answers:
    """A model that answers the page; not meant for two threads at once.

    Attributes:
        predictor: the model.
        source: its network, to look into the attention; None where it has none.
        blocks: the attention blocks by name, from the image on.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.source: AttentionSource | None = None
        self.blocks: dict[str, MHSA2d] = {}
        try:
            self.source = predictor.task.attention_source(predictor.trained)
            layers = [name for name, layer in self.source.network.named_modules() if isinstance(layer, MHSA2d)]
        except UserError:
            return
        names = (name.rpartition(".")[0] for name in layers)
        self.blocks = dict(attention_block(self.source.network, name) for name in names)

    def about(self) -> dict[str, Any]:
        """The model, its classes and its attention blocks."""
        path = self.predictor.trained.path
        name = path.parents[1].name if path.parent.name == "checkpoints" else path.parent.name or path.name
        return {
            "model": f"{type(self.predictor.model).__name__}, {name}",
            "classes": list(self.predictor.class_names),
            "blocks": list(self.blocks),
            "least_score": LEAST_SCORE,
        }

    def predict(self, encoded: bytes, name: str) -> dict[str, Any]:
        """The objects in an image in COCO's results format, or its likeliest classes, and the image as it was seen.

        Raises:
            UserError: no readable image.
        """
        image, started = pixels_of_upload(encoded, name), time.perf_counter()
        answer: dict[str, Any] = {"height": image.shape[1], "width": image.shape[2]}
        options = {"threshold": LEAST_SCORE} if self.predictor.task.name == "detection" else {"top": TOP}
        found = self.predictor(image, **options)
        if isinstance(found, Detections):
            answer |= {"objects": found.to_coco(), "categories": [c.__dict__ for c in found.categories]}
        else:
            answer["classes"] = found.to_dicts()
        answer["seconds"] = time.perf_counter() - started
        return answer | {"picture": jpeg(Image.fromarray(image.permute(1, 2, 0).numpy()), SHOWN_SIDE)}

    def attend(self, encoded: bytes, name: str, x: int, y: int, block: str) -> dict[str, Any]:
        """Where each head of an attention block looks from a point of an image, (x, y) in its pixels.

        Returns:
            "heads": for each head the rows of the map, the shares of its attention that each cell has; "cell": the row
            and column of the point.

        Raises:
            UserError: no readable image, no such block, or a point outside of the image.
        """
        if self.source is None or block not in self.blocks:
            raise UserError(f"block: should be one of {', '.join(self.blocks) or 'none'}, got {block[:80]!r}")
        image = pixels_of_upload(encoded, name)
        (heads,) = attend_photograph(self.source, self.blocks[block], image, [(x, y)])
        rows, columns = heads.shape[1:]
        cell = [y * rows // image.shape[1], x * columns // image.shape[2]]
        return {"block": block, "cell": cell, "heads": heads.tolist()}


def pixels_of_upload(encoded: bytes, name: str) -> Tensor:
    """The image in an upload, upright, (3, H, W) uint8; errors as in :func:`~botvision.data.decode_image`."""
    return pixels_of(decode_image(encoded, name))
