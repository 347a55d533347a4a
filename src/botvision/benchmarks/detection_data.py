"""How many images a second the input pipeline of detection reads beside torchvision's, in interleaved runs."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler, Subset
from torchvision import datasets, tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from botvision.benchmarks.data import Throughput, time_loaders
from botvision.configuration import FieldError
from botvision.data import CocoDetection, write_generated_coco
from botvision.data.layouts import find_split
from botvision.data.loading import RunBatches, training_loader
from botvision.errors import UserError
from botvision.tasks.detection.training_images import TrainingImages
from botvision.tasks.detection.transforms import PADDING_COLOUR, train_transform

BATCH = 8
OBJECTS = 100
JITTERS = {"jitter 0.8 to 1.25": (0.8, 1.25), "jitter 0.1 to 2": (0.1, 2.0)}
"""The scale jitter of the paper's detectors, and the widest one of its Table 6, which is torchvision's default."""
DRAWN_IMAGES, DRAWN_SIDE = 64, 640


def bench_detection_data(folder: Path, *, size: int, images: int, workers: int, repeats: int) -> list[Throughput]:
    """Time both pipelines on the same images with objects; crowds are left out.

    Both decode JPEG files and polygons, scale by a random factor, crop and pad to a square, flip, and give uint8
    (3, size, size) with boxes and masks. Ours also cuts each mask out at its box, as the mask head takes it.
    torchvision is timed with Pillow's images, which its reference uses by default, and with tensors.

    Args:
        folder: a data set in COCO's layout, of which the training split is read; objects have masks.
        size: side of the square, in pixels.
        images: to read in one turn.
        workers: processes that read; 0 reads in this one.
        repeats: turns; medians are reported.

    Raises:
        UserError: the data set cannot be read, or pycocotools is missing, with which torchvision reads it.
        FieldError: it has no object, or one without a mask.
    """
    dataset = CocoDetection(folder, "train")
    if not dataset.objects or dataset.objects_with_mask < dataset.objects:
        found = f"{dataset.objects_with_mask} masks of {dataset.objects} objects in {dataset.annotation_file}"
        raise FieldError(("data",), f"should be images of objects with masks, there are {found}")
    chosen = [
        number for number in range(len(dataset)) if any(not instance.crowd for instance in dataset.instances(number))
    ]
    ids = [dataset.images[number].id for number in chosen]
    batches = images // BATCH

    def ours(jitter: tuple[float, float]) -> Callable[[], DataLoader]:
        data = CocoDetection(folder, "train", train_transform(size, jitter, objects=OBJECTS))
        training = Subset(TrainingImages(data, copy_paste=0, objects=OBJECTS), chosen)
        return lambda: training_loader(training, RunBatches(len(training), BATCH, batches, seed=0), workers)

    def torchvisions(jitter: tuple[float, float], first: list[v2.Transform]) -> Callable[[], DataLoader]:
        data = _torchvision(folder, ids, [*first, *_scale_crop_flip(size, jitter)])
        sampler = RandomSampler(data, num_samples=batches * BATCH)  # type: ignore[arg-type]
        return lambda: DataLoader(data, BATCH, sampler=sampler, num_workers=workers, collate_fn=list)

    loaders = {}
    for recipe, jitter in JITTERS.items():
        loaders[recipe, "botvision"] = ours(jitter)
        loaders[recipe, "torchvision"] = torchvisions(jitter, [])
        loaders[recipe, "torchvision, tensors"] = torchvisions(jitter, [v2.ToImage()])
    return time_loaders(loaders, batches * BATCH, workers=workers, repeats=repeats)


def _torchvision(folder: Path, ids: list[Any], steps: list[v2.Transform]) -> Dataset:
    """torchvision's data set, of some images without their crowds."""
    annotation_file, image_folder = find_split(folder, "train")
    try:
        with redirect_stdout(None):  # pycocotools prints how long it took
            dataset = datasets.CocoDetection(image_folder, str(annotation_file), transforms=v2.Compose(steps))
    except ImportError as error:
        raise UserError("bench data --task detection needs pycocotools: pip install 'botvision[bench]'") from error
    for image, annotations in dataset.coco.imgToAnns.items():
        dataset.coco.imgToAnns[image] = [one for one in annotations if not one.get("iscrowd")]
    dataset.ids = ids
    return datasets.wrap_dataset_for_transforms_v2(dataset, target_keys={"image_id", "boxes", "labels", "masks"})


def _scale_crop_flip(size: int, jitter: tuple[float, float]) -> list[v2.Transform]:
    """Large scale jitter as in torchvision's references/detection/presets.py, without the conversion to float32."""
    return [
        v2.ScaleJitter((size, size), scale_range=jitter, antialias=True),
        FixedSizeCrop(size),
        v2.RandomHorizontalFlip(),
        v2.ToImage(),
        v2.SanitizeBoundingBoxes(),
    ]


class FixedSizeCrop(v2.Transform):
    """A random window of a square, padded at the bottom and right: that of torchvision's references, for all types."""

    def __init__(self, size: int) -> None:
        """Side of the square, in pixels."""
        super().__init__()
        self.size = size

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """The window, and what is padded: left, top, right, bottom."""
        sides = v2.query_size(flat_inputs)
        height, width = (min(side, self.size) for side in sides)
        top, left = (int(torch.randint(max(0, side - self.size) + 1, ())) for side in sides)
        return {"window": (top, left, height, width), "padding": [0, 0, self.size - width, self.size - height]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:  # noqa: ANN401
        """An image, boxes or masks, cut and padded."""
        fill = 0 if isinstance(inpt, tv_tensors.Mask) else list(map(int, PADDING_COLOUR))
        return F.pad(F.crop(inpt, *params["window"]), params["padding"], fill=fill)


@contextmanager
def drawn_objects() -> Iterator[Path]:
    """A drawn data set in COCO's layout with images of about COCO's size, for as long as the context lasts."""
    with tempfile.TemporaryDirectory() as name:
        yield write_generated_coco(
            Path(name) / "coco", train_images=DRAWN_IMAGES, val_images=1, image_size=DRAWN_SIDE, seed=0
        )
