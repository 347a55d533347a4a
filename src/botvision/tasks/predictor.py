"""A trained model in three lines: from a run to what is in a photograph."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from botvision.checkpoint import checkpoint_of, hub_folder, is_checkpoint, read_checkpoint
from botvision.configuration import check_count
from botvision.data import AnyImage, pixels_of, separated
from botvision.device import pick_device
from botvision.errors import UserError
from botvision.models import fold
from botvision.models import load as load_network
from botvision.tasks.base import Trained
from botvision.tasks.model_card import model_card
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
        source: a run folder (its best checkpoint), a checkpoint, a folder that :meth:`save_pretrained` wrote, or
            ``hf-hub:OWNER/NAME``.
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
        self.trained: Trained = self.task.load(checkpoint, self.device)
        trained: Any = self.trained  # a named tuple of each task
        self.folded: Trained = trained._replace(model=fold(trained.model))

    @classmethod
    def from_pretrained(cls, name: str | Path, *, device: str = "auto", **options: Any) -> "Predictor":  # noqa: ANN401
        """A predictor from the Hugging Face Hub, or from a folder that :meth:`save_pretrained` wrote.

        Args:
            name: OWNER/NAME, or the folder.
            device: as for :class:`Predictor`.
            options: of ``huggingface_hub.snapshot_download``, such as ``revision``, ``token`` and ``cache_dir``.

        Raises:
            UserError: the package huggingface-hub is missing, there is no such model, or it is of another library.
        """
        return cls(name if Path(name).is_dir() else hub_folder(str(name), **options), device=device)

    @property
    def model(self) -> nn.Module:
        """The model, in test mode; predictions come from a copy of it, folded (:func:`~botvision.models.fold`)."""
        return self.trained.model

    @property
    def in_channels(self) -> int | None:
        """Channels of the images as they are stored; None of a model of RGB images."""
        return self.trained.model.config.in_channels

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
            FieldError: a batch size that is no whole number or below 1, or an option out of its range.
            UserError: an image that cannot be read or has another form.
            TypeError: an option of another task.
        """
        given, is_one = separated(images)
        size, found = self.images_at_once(batch_size), list[Prediction]()
        for start in range(0, len(given), size):
            pixels = [pixels_of(image, self.in_channels) for image in given[start : start + size]]
            found += self.task.predict(self.folded, pixels, **options)
        return found[0] if is_one else found

    def images_at_once(self, batch_size: int | None) -> int:
        """``batch_size``, or what suits the device; raises a FieldError where it is no whole number, or below 1."""
        if batch_size is None:
            return 1 if self.device.type == "cpu" else IMAGES_ON_GPU
        check_count("batch_size", batch_size)
        return batch_size

    def save_pretrained(self, folder: str | Path, *, license: str | None = None) -> None:
        """Write the model as the hub has it: safetensors, its description, and a model card in the folder's README.md.

        Args:
            folder: where to; a card that is there already stays.
            license: of the weights, as the hub names it, such as "cc-by-4.0".

        Raises:
            UserError: the package huggingface-hub is missing.
        """
        model, card = self.for_hub(Path(folder).name, license)
        model.save_pretrained(folder, model_card_kwargs={"text": card})

    def push_to_hub(self, name: str, *, license: str | None = None, **options: Any) -> str:  # noqa: ANN401 (of the hub's)
        """Upload the model to the Hugging Face Hub, with a model card written from its run; gives the URL.

        Args:
            name: OWNER/NAME.
            license: of the weights, as the hub names it, such as "cc-by-4.0".
            options: of the hub's own ``push_to_hub``, such as ``private``, ``token``, ``commit_message``.

        Raises:
            UserError: the package huggingface-hub is missing.
        """
        model, card = self.for_hub(f"hf-hub:{name}", license)
        return model.push_to_hub(name, model_card_kwargs={"text": card}, **options)

    def for_hub(self, name: str, license: str | None) -> tuple[Any, str]:
        """The module of the hub with this model in it, and the model card."""
        try:
            from botvision.tasks.hub import HubModel
        except ImportError as error:
            raise UserError("the hub needs the package huggingface-hub: pip install 'botvision[hub]'") from error
        hub_model = HubModel(**read_checkpoint(self.trained.path)["botvision"])
        hub_model.model.load_state_dict(self.model.state_dict())
        return hub_model, model_card(self.trained, name, license)


def load(source: str | Path) -> nn.Module:
    """The model of a run folder, a checkpoint, or a file that :func:`botvision.save` wrote.

    Returns:
        In test mode, on the processor: of a run or a checkpoint a detector or a classifier, which take pixels from 0 to
        255; of a file the network that was saved, which takes normalised images.

    Raises:
        UserError: it does not exist, cannot be read, or is of another program.
    """
    path = Path(source)
    if path.is_file() and not is_checkpoint(path):
        return load_network(path)
    checkpoint = checkpoint_of(path)
    return task_of_checkpoint(checkpoint).load(checkpoint, "cpu").model
