"""COCO's instance annotations as a data set: images as stored, boxes, labels and masks."""

import logging
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from botvision.data.annotations import ImageRecord, Instance, read_annotations
from botvision.data.image_files import check_image_files
from botvision.data.images import read_image, warn_of_rotation_marks
from botvision.data.masks import decode_masks
from botvision.errors import UserError

logger = logging.getLogger("botvision")

Target = dict[str, Any]


class CocoSplit(NamedTuple):
    """Where the annotations and the images of a split are."""

    annotation_file: Path
    image_folder: Path


def find_split(folder: Path, split: str) -> CocoSplit:
    """Find `annotations/instances_{split}2017.json` and `{split}2017/`, or both without the year.

    Raises:
        UserError: the folder, the annotations or the images are missing.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the one that holds annotations/ and {split}2017/")
    for name in (f"{split}2017", split):
        found = CocoSplit(folder / "annotations" / f"instances_{name}.json", folder / name)
        if found.annotation_file.is_file():
            if not found.image_folder.is_dir():
                raise UserError(
                    f"{found.image_folder}: no such folder; the images of {found.annotation_file} belong there"
                )
            return found
    raise UserError(
        f"{folder / 'annotations'}: holds neither instances_{split}2017.json nor instances_{split}.json; "
        "give a folder in COCO's layout"
    )


class CocoDetection(Dataset):
    """A split of a data set in COCO's format.

    An item is `(image, target)`: the image a `tv_tensors.Image`, uint8 RGB, (3, H, W); the target a dict of

    - `boxes`: `tv_tensors.BoundingBoxes`, float32 (N, 4), x1 y1 x2 y2 in pixels inside the image
    - `labels`: int64 (N,), 1..K in the order of COCO's ids; 0 is left for the background
    - `masks`: `tv_tensors.Mask`, uint8 (N, H, W); only where masks are read
    - `image_id`: int
    - `original_size`: (H, W) of the stored image

    Attributes:
        categories: sorted by COCO's id; label k is `categories[k - 1]`.
        images: one record for every item, in order.
        annotation_file: the file that was read.
        dropped: how many annotations were left out because they cannot be learnt from, by reason.
        dropped_ids: COCO's ids of those annotations.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        transform: Callable[[tv_tensors.Image, Target], tuple[tv_tensors.Image, Target]] | None = None,
        *,
        limit: int | None = None,
        masks: bool = True,
    ) -> None:
        """Read and check the annotations, and check that the image files are there.

        Args:
            folder: holds `annotations/` and the image folders; see `find_split`.
            split: `train` or `val`.
            transform: takes and returns `(image, target)`.
            limit: number of images to take, the first ones of the file.
            masks: whether to read masks; without, objects need no 'segmentation', only a 'bbox'.

        Raises:
            UserError: a file or folder is missing, or a record is wrong.
        """
        self.annotation_file, image_folder = find_split(Path(folder), split)
        found = read_annotations(self.annotation_file, image_folder, masks=masks)
        self.transform = transform
        self.masks = masks
        self.categories = found.categories
        self.dropped = found.dropped
        self.dropped_ids = found.dropped_ids
        self._report_dropped()
        self.images = found.images[:limit]
        check_image_files(image_folder, [image.path.relative_to(image_folder).as_posix() for image in self.images])
        sizes = [(image.path, (image.height, image.width)) for image in self.images]
        warn_of_rotation_marks(self.annotation_file, sizes)
        self._instances = _PackedInstances([found.instances[image.id] for image in self.images])

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, Target]:
        """The image and its target, transformed.

        Raises:
            UserError: the image file is damaged or not of the size that the annotations say; a mask is cut off.
        """
        record = self.images[index]
        size = (record.height, record.width)
        image = tv_tensors.Image(read_image(record.path, size))
        labels, boxes, segmentations = self._instances[index]
        target: Target = {
            "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size),
            "labels": torch.from_numpy(labels),
            "image_id": record.id,
            "original_size": size,
        }
        if self.masks:
            target["masks"] = tv_tensors.Mask(self._decode(segmentations, record))
        return (image, target) if self.transform is None else self.transform(image, target)

    def _decode(self, segmentations: list, record: ImageRecord) -> Tensor:
        try:
            return decode_masks(segmentations, record.height, record.width)
        except ValueError as error:
            raise UserError(
                f"{self.annotation_file}: a 'segmentation' of image {record.id} cannot be decoded ({error}); "
                "write the file again"
            ) from error

    def _report_dropped(self) -> None:
        if self.dropped:
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.dropped.items()))
            total = sum(self.dropped.values())
            logger.warning("%s: left out %d annotations: %s", self.annotation_file, total, reasons)


class _PackedInstances:
    """The instances of every image in a few flat arrays.

    Worker processes get three blocks of memory to copy or share, not millions of small Python objects.
    """

    def __init__(self, images: Sequence[Sequence[Instance]]) -> None:
        instances = [instance for image in images for instance in image]
        packed = [pickle.dumps([instance.segmentation for instance in image]) for image in images]
        self.labels = np.array([instance.label for instance in instances], dtype=np.int64)
        self.boxes = np.array([instance.box for instance in instances], dtype=np.float32).reshape(-1, 4)
        self.segmentations = np.frombuffer(b"".join(packed), dtype=np.uint8)
        self.instance_ends = np.cumsum([0, *map(len, images)])
        self.segmentation_ends = np.cumsum([0, *map(len, packed)])

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, list]:
        """Labels (N,), boxes (N, 4) and segmentations (N) of one image; the arrays are copies."""
        index %= len(self.instance_ends) - 1
        own = slice(*self.instance_ends[index : index + 2])
        start, end = self.segmentation_ends[index : index + 2]
        segmentations = pickle.loads(self.segmentations[start:end].data)
        return self.labels[own].copy(), self.boxes[own].copy(), segmentations
