"""A trained model in three lines: from a run to what is in a photograph."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from botvision.checkpoint import checkpoint_of
from botvision.data import AnyImage, pixels_of, separated
from botvision.device import pick_device
from botvision.models import fold
from botvision.models.saving import is_saved_network
from botvision.models.saving import load as load_network
from botvision.tasks.base import Trained
from botvision.tasks.prediction import Prediction
from botvision.tasks.registry import task_of_checkpoint

IMAGES_ON_GPU = 8
"""Images that a GPU predicts on at once by default; it is idle on single ones, which a processor never is."""


class Predictor:
    """A trained detector or classifier that takes images in any form::

        predictor = botvision.Predictor("runs/coco-botnet50")
        found = predictor("photo.jpg")
        found.draw().save("found.png")

    Args:
        source: a run folder (its best checkpoint) or a checkpoint.
        device: "auto" (a GPU where there is one), "cpu" or "cuda".

    Attributes:
        task: of the model, from :data:`~botvision.tasks.registry.TASKS`.
        trained: the model with what its outputs stand for, as :meth:`Task.load` gives it.
        device: where the model is.

    Raises:
        UserError: no such run or checkpoint, or one that cannot be loaded.
        FieldError: a device that there is not.
    """

    def __init__(self, source: str | Path, *, device: str = "auto") -> None:
        self.device = pick_device(device)
        checkpoint = checkpoint_of(Path(source))
        self.task = task_of_checkpoint(checkpoint)
        trained: Any = self.task.load(checkpoint, self.device)  # a named tuple of each task
        self.trained: Trained = trained._replace(model=fold(trained.model))

    @property
    def model(self) -> nn.Module:
        """The model, in test mode and as :func:`~botvision.models.folding.fold` returns it."""
        return self.trained.model

    @property
    def class_names(self) -> Sequence[str]:
        """The class that each ``class_id`` of a prediction stands for."""
        return self.trained.names

    def __call__(
        self,
        images: AnyImage | Iterable[AnyImage],
        *,
        batch_size: int | None = None,
        **options: Any,  # noqa: ANN401 (of Task.predict)
    ) -> Any:  # noqa: ANN401 (Prediction, or a list)
        """What the model says about an image, or about each of a batch.

        Args:
            images: one image, see :func:`~botvision.data.any_image.pixels_of`, or several: a list, an array
                (B, H, W, C) or a tensor (B, C, H, W).
            batch_size: images that the network takes at once; by default 1 on a processor and 8 on a GPU.
            options: ``threshold`` of a detector, 0.5 by default: objects that score less are left out; ``top`` of a
                classifier, 5 by default: how many classes are named.

        Returns:
            :class:`~botvision.tasks.detection.detections.Detections` or
            :class:`~botvision.tasks.classification.prediction.Classification`; of a batch a list of them, in its order.

        Raises:
            UserError: an image that cannot be read or has another form.
            TypeError: an option of another task.
        """
        given, is_one = separated(images)
        size, found = self.images_at_once(batch_size), list[Prediction]()
        for start in range(0, len(given), size):
            pixels = [pixels_of(image) for image in given[start : start + size]]
            found += self.task.predict(self.trained, pixels, **options)
        return found[0] if is_one else found

    def images_at_once(self, batch_size: int | None) -> int:
        """``batch_size``, or what suits the device."""
        return batch_size or (1 if self.device.type == "cpu" else IMAGES_ON_GPU)


def load(source: str | Path) -> nn.Module:
    """The model of a run folder, a checkpoint, or a file that :func:`botvision.save` wrote.

    Returns:
        In test mode, on the processor: of a run or a checkpoint a detector or a classifier, which take pixels from 0 to
        255; of a file the network that was saved, which takes normalised images.

    Raises:
        UserError: it does not exist, cannot be read, or is of another program.
    """
    path = Path(source)
    if path.is_file() and is_saved_network(path):
        return load_network(path)
    checkpoint = checkpoint_of(path)
    return task_of_checkpoint(checkpoint).load(checkpoint, "cpu").model
