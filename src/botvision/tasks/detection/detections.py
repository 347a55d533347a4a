"""The objects that a detector found in an image."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from botvision.configuration import check_fraction
from botvision.data import Category
from botvision.tasks.detection.drawing import draw_detections
from botvision.tasks.detection.results import above, coco_results, pasted
from botvision.tasks.prediction import Prediction, supervision


@dataclass(frozen=True, eq=False, repr=False)
class Detections(Prediction):
    """The objects in one image, best first; ``len()`` is their number.

    Attributes:
        image: (3, H, W) uint8, or as stored (C, H, W) float32.
        found: "boxes", "labels", "scores" and, of detectors that have them, "masks" and "keypoints", as
            :func:`~botvision.tasks.detection.predict.detect` gives them.
        categories: the classes; label i stands for ``categories[i - 1]``.
    """

    image: Tensor
    found: dict[str, Tensor]
    categories: Sequence[Category]

    def __len__(self) -> int:
        """The number of objects."""
        return len(self.scores)

    @property
    def boxes(self) -> Tensor:
        """(D, 4), x1, y1, x2, y2 in pixels of the image."""
        return self.found["boxes"]

    @property
    def scores(self) -> Tensor:  # type: ignore[override]
        """(D,), between 0 and 1."""
        return self.found["scores"]

    @property
    def class_ids(self) -> Tensor:
        """(D,) int64, places in :attr:`categories` from 0 on. COCO's own ids are those of :meth:`to_coco`."""
        return self.found["labels"] - 1

    @property
    def names(self) -> list[str]:
        """The name of each object's class."""
        return [self.categories[place].name for place in self.class_ids.tolist()]

    @property
    def masks(self) -> Tensor | None:
        """(D, H, W) bool, None of a detector without masks; made anew each time, D x H x W bytes."""
        if "masks" not in self.found:
            return None
        height, width = (int(side) for side in self.image.shape[1:])
        masks = torch.zeros(len(self), height, width, dtype=torch.bool)
        for mask, (top, left, part) in zip(
            masks, pasted(self.found["masks"], self.boxes, (height, width)), strict=True
        ):
            mask[top : top + part.shape[0], left : left + part.shape[1]] = part
        return masks

    @property
    def keypoints(self) -> Tensor | None:
        """(D, K, 3), x and y in pixels and a score, None of a detector without keypoints."""
        return self.found.get("keypoints")

    def above(self, threshold: float) -> "Detections":
        """Those that score at least ``threshold``; raises a FieldError where it is no number from 0 to 1."""
        check_fraction("threshold", threshold)
        return Detections(self.image, above(self.found, threshold), self.categories)

    def to_coco(self, image_id: int = 1) -> list[dict[str, Any]]:
        """The objects in COCO's results format, see :func:`~botvision.tasks.detection.results.coco_results`.

        Each has the name of its class as "category_name" too.
        """
        names = {category.id: category.name for category in self.categories}
        return [{**row, "image_id": image_id, "category_name": names[row["category_id"]]} for row in self._rows]

    @cached_property
    def _rows(self) -> list[dict[str, Any]]:
        """Masks take long to place in the image; they are drawn and written from the same rows."""
        return coco_results(self.found, 1, self.categories, (int(self.image.shape[1]), int(self.image.shape[2])))

    def draw(self) -> Image.Image:
        """Masks, boxes, keypoints, names and scores over the image; see :func:`draw_detections`."""
        return draw_detections(self.image, self._rows, self.categories)

    def to_supervision(self) -> Any:  # noqa: ANN401 (of an optional package)
        """As ``supervision.Detections``: "class_name", and "keypoints" where there are some, are in its ``data``."""
        masks, data = self.masks, {"class_name": np.array(self.names, dtype=str)}
        if self.keypoints is not None:
            data["keypoints"] = self.keypoints.numpy()
        return supervision().Detections(
            xyxy=self.boxes.numpy(),
            mask=None if masks is None else masks.numpy(),
            confidence=self.scores.numpy(),
            class_id=self.class_ids.numpy(),
            data=data,
        )
