"""The classes that a classifier takes an image for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image
from torch import Tensor

from botvision.tasks.classification.drawing import draw_ranking
from botvision.tasks.prediction import Prediction, supervision


@dataclass(frozen=True, eq=False, repr=False)
class Classification(Prediction):
    """The likeliest classes of one image, likeliest first; ``len()`` is their number.

    Attributes:
        image: (3, H, W) uint8, or as stored (C, H, W) float32.
        class_ids: (D,) int64, places in ``classes``.
        scores: (D,) float64, probabilities.
        classes: every class, as the training data named it.
        class_names: the same for people to read.
    """

    image: Tensor
    class_ids: Tensor
    scores: Tensor
    classes: Sequence[str]
    class_names: Sequence[str]

    def __len__(self) -> int:
        """The number of classes that are named."""
        return len(self.scores)

    @property
    def names(self) -> list[str]:
        """The likeliest classes."""
        return [self.class_names[place] for place in self.class_ids.tolist()]

    def to_dicts(self) -> list[dict[str, Any]]:
        """Each as plain data: "class" (as the data set has it), "name" (for people to read) and "probability"."""
        return [
            {"class": self.classes[place], "name": self.class_names[place], "probability": probability}
            for place, probability in zip(self.class_ids.tolist(), self.scores.tolist(), strict=True)
        ]

    def draw(self) -> Image.Image:
        """The image, and beside it bars for the classes."""
        return draw_ranking(self.image, list(zip(self.names, self.scores.tolist(), strict=True)))

    def to_supervision(self) -> Any:  # noqa: ANN401 (of an optional package)
        """As ``supervision.Classifications``."""
        return supervision().Classifications(class_id=self.class_ids.numpy(), confidence=self.scores.numpy())
