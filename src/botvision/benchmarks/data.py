"""How many images a second the input pipeline of classification reads beside torchvision's, in interleaved runs."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from rich.table import Table
from torch.utils.data import DataLoader, RandomSampler
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from botvision.benchmarks.names import BATCH
from botvision.data.class_folders import ClassFolders
from botvision.data.classification import ImageClasses
from botvision.data.loading import RunBatches, training_loader
from botvision.data.shapes import draw_picture
from botvision.files import whole_file
from botvision.tasks.classification.rand_augment import GREY
from botvision.tasks.classification.transforms import train_augmentation

RECIPES: dict[str, tuple[int, int] | None] = {"crop, flip": None, "crop, flip, RandAugment (2, 10)": (2, 10)}
"""The augmentations of the paper's Tables 9 and 10."""
DRAWN_IMAGES, DRAWN_CLASSES, DRAWN_SIDE = 64, 4, 500


@dataclass(frozen=True)
class Throughput:
    """One pipeline with one augmentation."""

    recipe: str
    name: str
    images_per_second: float
    """Of one core; median."""


def bench_data(folder: Path, *, size: int, images: int, workers: int, repeats: int) -> list[Throughput]:
    """Time both pipelines on the same images.

    Both decode whole JPEG files and give batches of uint8 (3, size, size); normalisation is the model's work here,
    and left out of torchvision's pipeline too.

    Args:
        folder: one folder of images a class.
        size: side of the square that a network takes, in pixels.
        images: to read in one turn.
        workers: processes that read; 0 reads in this one.
        repeats: turns; medians are reported.
    """
    pipelines = {"botvision": _ours, "torchvision": _torchvision}
    loaders = {
        (recipe, name): pipeline(folder, size, images, workers, randaugment)
        for recipe, randaugment in RECIPES.items()
        for name, pipeline in pipelines.items()
    }
    return time_loaders(loaders, images // BATCH * BATCH, workers=workers, repeats=repeats)


def time_loaders(
    loaders: Mapping[tuple[str, str], Callable[[], DataLoader]], images: int, *, workers: int, repeats: int
) -> list[Throughput]:
    """Read all batches of each loader in turn, so that a busy moment meets them all, on one core each process.

    Args:
        loaders: by the augmentation and the name of the pipeline; called anew for each turn.
        images: that each loader gives.
        workers: processes of each loader; 0 reads in this one.
        repeats: turns; medians are reported.
    """
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in loaders}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # one core for this process, as a worker has
    try:
        for turn in range(repeats + 1):
            for key, loader in loaders.items():
                started = time.perf_counter()
                for _ in loader():
                    pass
                if turn:  # the first turn warms the file cache up
                    seconds[key].append(time.perf_counter() - started)
    finally:
        torch.set_num_threads(threads)
    return [Throughput(*key, images / statistics.median(turns) / max(1, workers)) for key, turns in seconds.items()]


def _ours(
    folder: Path, size: int, images: int, workers: int, randaugment: tuple[int, int] | None
) -> Callable[[], DataLoader]:
    """The pipeline that training uses."""
    transform = train_augmentation(size, randaugment=randaugment)
    dataset = ImageClasses(ClassFolders(folder, folder), transform)
    return lambda: training_loader(dataset, RunBatches(len(dataset), BATCH, images // BATCH, seed=0), workers)


def _torchvision(
    folder: Path, size: int, images: int, workers: int, randaugment: tuple[int, int] | None
) -> Callable[[], DataLoader]:
    """The steps of torchvision's reference recipe for classification, in its default form, on Pillow's images."""
    steps: list[v2.Transform] = [v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip()]
    if randaugment is not None:
        layers, magnitude = randaugment
        steps.append(v2.RandAugment(layers, 3 * magnitude, fill=list(GREY)))  # 30 is its full strength, 10 is ours
    dataset = ImageFolder(folder, v2.Compose([*steps, v2.PILToTensor()]))
    sampler = RandomSampler(dataset, num_samples=images // BATCH * BATCH)
    return lambda: DataLoader(dataset, BATCH, sampler=sampler, num_workers=workers)


@contextmanager
def drawn_images() -> Iterator[Path]:
    """A folder of drawn photographs, of the size that most of ImageNet's have, for as long as the context lasts."""
    with tempfile.TemporaryDirectory() as name:
        for number in range(DRAWN_IMAGES):
            file = Path(name) / f"class{number % DRAWN_CLASSES}" / f"{number}.jpg"
            file.parent.mkdir(exist_ok=True)
            pixels, _ = draw_picture(np.random.default_rng(number), DRAWN_SIDE)
            Image.fromarray(pixels).save(file, quality=92)
        yield Path(name)


def throughput_table(found: list[Throughput]) -> Table:
    """The throughputs, with their ratio to torchvision's."""
    table = Table("augmentation", "pipeline", "images/s a core", "/ torchvision")
    floor = {one.recipe: one.images_per_second for one in found if one.name == "torchvision"}
    for one in found:
        ratio = one.images_per_second / floor[one.recipe]
        table.add_row(one.recipe, one.name, f"{one.images_per_second:.3g}", f"{ratio:.2f}")
    return table


def draw_throughput(found: list[Throughput], path: Path) -> None:
    """A bar for every pipeline, as a picture."""
    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.add_subplot()
    recipes = list(dict.fromkeys(one.recipe for one in found))
    names = list(dict.fromkeys(one.name for one in found))
    width = 0.8 / len(names)
    for offset, name in enumerate(names):
        rates = [one.images_per_second for one in found if one.name == name]
        bars = axes.bar([place + offset * width for place in range(len(rates))], rates, width, label=name)
        axes.bar_label(bars, fmt="%.3g")
    axes.set_xticks([place + (len(names) - 1) / 2 * width for place in range(len(recipes))], recipes)
    axes.set_ylabel("images a second and core")
    axes.margins(y=0.15)
    figure.legend(loc="outside upper center", ncols=len(names))
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=150)
