"""COCO's instance annotations as a data set: images as stored, boxes, labels and masks."""

import pickle
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from torchvision import tv_tensors

from botvision.data.annotations import Category, ImageRecord, Instance, keypoint_names, read_annotations
from botvision.data.digests import digest
from botvision.data.findings import Findings
from botvision.data.images import read_image, warn_of_rotation_marks
from botvision.data.keypoints import mirrored
from botvision.data.layouts import find_annotations, find_image_files
from botvision.data.masks import decode_masks

Target = dict[str, Any]


class CocoDetection(Dataset):
    """A split of a data set in COCO's format.

    An item is `(image, target)`: the image a `tv_tensors.Image` as `read_image` gives it, uint8 RGB (3, H, W) unless it
    is read as stored; the target a dict of

    - `boxes`: `tv_tensors.BoundingBoxes`, float32 (N, 4), x1 y1 x2 y2 in pixels inside the image
    - `labels`: int64 (N,), 1..K in the order of COCO's ids; 0 is left for the background
    - `masks`: `tv_tensors.Mask`, uint8 (N, H, W); only where masks are read
    - `has_mask`: bool (N,), beside `masks`: whether the mask of the object is known; if not, its mask is empty
    - `keypoints`: float32 (N, K, 3), x and y in pixels and the visibility, 0 to 2, all 0 for an object without; only
      where they are read. 0.5 is added to the file's x and y, as a pixel spans from its index to the next one here
    - `keypoint_mirror`: int64 (K,), beside `keypoints`: see `mirrored`
    - `image_id`: as in the file
    - `original_size`: (H, W) of the stored image

    Attributes:
        categories: sorted by COCO's id; label k is `categories[k - 1]`.
        images: one record for every item, in order.
        annotation_file: the file that was read.
        digest: the number of images, and hexadecimal digits that are others where files, sizes, boxes or labels are.
        annotated: whether the file has annotations at all; test splits may have none.
        dropped: how many annotations are not learnt, by reason; crowds are among them.
        changed: how many objects got a box from their mask, had it cut, or have no usable mask or keypoints, by what it
            is.
        objects: number of objects to learn.
        farthest: largest coordinate of their boxes, in pixels.
        objects_with_mask, objects_with_keypoints: how many of them have a mask, and keypoints.
        transform: takes and returns `(image, target)`.
        channels: of images that are read as stored; None for RGB. Both can be set at any time.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        transform: Callable[[tv_tensors.Image, Target], tuple[tv_tensors.Image, Target]] | None = None,
        *,
        limit: int | None = None,
        masks: bool = True,
        keypoints: bool = False,
        channels: int | None = None,
        follow_links: bool = False,
        findings: Findings | None = None,
    ) -> None:
        """Read and check the annotations, and check that the image files are there.

        Args:
            folder: holds the annotations and the images; see `find_annotations`.
            split: `train` or `val`, or another that is there.
            transform, channels: see above.
            limit: number of images to take, the first ones of the file.
            masks: whether to read masks; without, objects need no 'segmentation', only a 'bbox'.
            keypoints: whether to read keypoints, from COCO's own file of them where it is there.
            follow_links: whether links may lead out of the image folder.
            findings: takes in all that is wrong, left out or changed, instead of an error at the first wrong record;
                such records are passed over.

        Raises:
            UserError: a file or folder is missing, or a record is wrong.
        """
        place, content = find_annotations(Path(folder), split, keypoints=keypoints)
        self.annotation_file, image_folder = place
        wanted: dict[str, Any] = {"masks": masks, "keypoints": keypoints, "limit": limit, "findings": findings}
        found = read_annotations(self.annotation_file, image_folder, content, **wanted)
        self.transform, self.channels = transform, channels
        self.masks, self.keypoints = masks, keypoints
        self.categories = found.categories
        self.annotated, self.dropped, self.changed = found.annotated, found.dropped, found.changed
        self.images = find_image_files(image_folder, found.images, follow_links=follow_links, findings=findings)
        warn_of_rotation_marks(self.annotation_file, [(one.path, (one.height, one.width)) for one in self.images])
        self.digest = digest(len(self.images), facts(self.images, found.instances))
        learnt = [instance for image in found.instances for instance in image if not instance.crowd]
        self.objects = len(learnt)
        self.farthest = max((max(instance.box) for instance in learnt), default=0.0)
        self.objects_with_mask = sum(instance.segmentation is not None for instance in learnt)
        self.objects_with_keypoints = sum(instance.keypoints is not None for instance in learnt)
        # One block of memory, which worker processes share; they would each copy millions of small objects.
        packed = [pickle.dumps(image) for image in found.instances]
        self._packed = np.frombuffer(b"".join(packed), dtype=np.uint8)
        self._ends = np.cumsum([0, *map(len, packed)])
        self._labels: Sequence[int] = range(len(self.categories) + 1)  # the label of each label in the file

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, Target]:
        """The image and its target, transformed.

        Raises:
            UserError: the image file is damaged or not of the size that the annotations say.
        """
        record = self.images[index]
        size = (record.height, record.width)
        image = tv_tensors.Image(read_image(record.path, size, self.channels))
        learnt = [instance for instance in self.instances(index) if not instance.crowd]
        boxes = torch.tensor([instance.box for instance in learnt], dtype=torch.float32).reshape(-1, 4)
        target: Target = {
            "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size),
            "labels": torch.tensor([instance.label for instance in learnt], dtype=torch.int64),
            "image_id": record.id,
            "original_size": size,
        }
        if self.masks:
            masks = decode_masks([instance.segmentation for instance in learnt], *size)
            target["masks"] = tv_tensors.Mask(masks)
            target["has_mask"] = masks.amax(dim=(1, 2)) > 0
        if self.keypoints:
            names = keypoint_names(self.categories)
            nothing = [0.0] * 3 * len(names)
            points = torch.tensor([instance.keypoints or nothing for instance in learnt], dtype=torch.float32)
            points = points.reshape(len(learnt), len(names), 3)
            target["keypoints"] = points + torch.tensor([0.5, 0.5, 0])
            target["keypoint_mirror"] = torch.tensor(mirrored(names), dtype=torch.int64)
        return (image, target) if self.transform is None else self.transform(image, target)

    def instances(self, index: int) -> list[Instance]:
        """All that the file says of an image, crowds too, checked."""
        start, end = self._ends[index % len(self) :][:2]
        found: list[Instance] = pickle.loads(self._packed[start:end].data)
        return [instance._replace(label=self._labels[instance.label]) for instance in found]

    def use_categories(self, categories: list[Category]) -> None:
        """Count labels by another list of categories, which holds all of this data set's own."""
        own = {label: categories.index(category) + 1 for label, category in enumerate(self.categories, start=1)}
        self._labels = [own.get(label, label) for label in self._labels]
        self.categories = categories


def facts(images: Sequence[ImageRecord], instances: Sequence[Sequence[Instance]]) -> Iterator[bytes]:
    """What tells annotated images from others, an image at a time; masks and keypoints are not looked at."""
    for image, objects in zip(images, instances, strict=True):
        about = image.id, image.path.name, image.height, image.width, [(one.label, *one.box) for one in objects]
        yield repr(about).encode()
