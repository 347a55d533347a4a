"""What a model says about an image: the interface of a task's results, and the way from image files to them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from PIL import Image
from torch import Tensor

from botvision.data import read_image_batches
from botvision.errors import UserError
from botvision.pictures import picture_files, save_picture
from botvision.training.trainable import OnImage


class Prediction(ABC):
    """What a model says about one image.

    Attributes:
        image: what it looked at, (3, H, W) uint8, or as stored (C, H, W) float32.
        names: of the classes, best first.
        scores: of the classes, between 0 and 1, best first, (D,).
    """

    image: Tensor
    scores: Tensor

    @property
    @abstractmethod
    def names(self) -> list[str]:
        """Of the classes, best first."""

    @abstractmethod
    def draw(self) -> Image.Image:
        """The image with what was predicted, as a picture."""

    @abstractmethod
    def to_supervision(self) -> Any:  # noqa: ANN401 (of an optional package)
        """The same for the package supervision, which draws, filters, tracks and counts.

        Raises:
            UserError: it is not installed.
        """

    def __repr__(self) -> str:
        """The kind, the size of the image, and the classes with their scores."""
        found = ", ".join(f"{name} {score:.2f}" for name, score in zip(self.names, self.scores.tolist(), strict=True))
        return f"{type(self).__name__}({self.image.shape[2]} x {self.image.shape[1]}: {found or 'nothing'})"


Some = TypeVar("Some", bound=Prediction)


def predict_and_draw(
    predict: Callable[[Sequence[Tensor]], Sequence[Some]],
    files: Sequence[Path],
    out: Path,
    batch_size: int,
    on_image: OnImage,
    channels: int | None = None,
) -> Iterator[tuple[int, Some]]:
    """Predict on image files, and draw each one; photographs are turned as their EXIF data say.

    Images that cannot be read are left out, with a warning.

    Args:
        predict: images as they are read -> what is in each.
        files: images.
        out: folder for the pictures, named after the images.
        batch_size: images that ``predict`` takes at once, fewer where they are large.
        on_image: told how many images are done, of how many.
        channels: of images that are read as stored, see :func:`~botvision.data.read_image`.

    Yields:
        The number of each image that could be read, from 1 on, and its prediction.

    Raises:
        UserError: no image can be read, or ``out`` is the folder of one.
    """
    pictures = picture_files(files, out)
    for batch in read_image_batches(files, batch_size, on_image, channels):
        for (number, _), prediction in zip(batch, predict([image for _, image in batch]), strict=True):
            save_picture(prediction.draw(), pictures[number - 1])
            yield number, prediction


def supervision() -> ModuleType:
    """The optional package.

    Raises:
        UserError: it is not installed.
    """
    try:
        import supervision
    except ImportError as error:
        raise UserError("to_supervision needs the package supervision: pip install 'botvision[supervision]'") from error
    return supervision
