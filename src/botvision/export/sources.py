"""What can be exported: a checkpoint of a task, or a network that ``botvision.save`` wrote; and what to compare on."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from botvision.checkpoint import checkpoint_of, is_checkpoint
from botvision.data import UnreadableImage, read_image
from botvision.data.shapes import draw_picture
from botvision.errors import UserError
from botvision.models import Network, load
from botvision.tasks.classification.options import CROP
from botvision.tasks.exportable import Exportable, ExportableNetwork
from botvision.tasks.pixel_config import PIXEL_MEAN, PIXEL_STD, RGB
from botvision.tasks.registry import task_of_checkpoint

logger = logging.getLogger("botvision")

MAPS = ("stem", "c2", "c3", "c4", "c5")
"""Names of the outputs of a feature backbone, by the numbers of ``out_indices``."""
GENERATED, GENERATED_SIDE = 4, 640
"""Pictures to compare on where no photographs are given, and their longer side in pixels."""


def exportable(path: Path) -> Exportable:
    """The model of a run folder, a checkpoint, or a file that ``botvision.save`` wrote.

    Raises:
        UserError: nothing that can be exported.
    """
    if path.is_file() and not is_checkpoint(path):
        return exportable_network(load(path))
    path = checkpoint_of(path)
    task = task_of_checkpoint(path)
    return task.exportable(task.load(path, torch.device("cpu")))


def exportable_network(network: Network) -> Exportable:
    """A network of the catalogue: normalised images -> "logits", or its maps by their names.

    Metadata have ImageNet's mean and standard deviation where images have three channels; for others, whose own ones a
    network does not know, the numbers of the file divided by 255.
    """
    channels = network.config.in_channels
    is_rgb = channels == RGB
    mean, std = (PIXEL_MEAN, PIXEL_STD) if is_rgb else ((0.0,) * channels, (255.0,) * channels)
    outputs = tuple(MAPS[index] for index in network.out_indices) if network.features_only else ("logits",)
    task = "features" if network.features_only else "classification"
    size = min(network.config.image_size)
    about = {"in_channels": None if is_rgb else channels, "shorter_side": round(size / CROP)}
    return ExportableNetwork(network, outputs, task, size, mean=mean, std=std, **about)


def photographs(files: Sequence[Path], channels: int | None, limit: int | None = None) -> Iterator[tuple[str, Tensor]]:
    """Images by name: (3, H, W) uint8, or (channels, H, W) with the numbers of the file; generated ones without files.

    Args:
        files: images.
        channels: as :func:`~botvision.data.read_image` takes them.
        limit: as many files at most, evenly spread; all by default. Those that cannot be read are left out.

    Raises:
        UserError: no file can be read.
    """
    count, readable = min(len(files), limit or len(files)), 0
    for number in range(count):
        file = files[number * len(files) // count]
        try:
            yield str(file), read_image(file, channels=channels)
            readable += 1
        except UnreadableImage as error:
            logger.warning("left out %s", error)
    if files and not readable:
        raise UserError(f"no image can be read, such as {files[0]}")
    for seed in range(0 if files else GENERATED):
        pixels, _ = draw_picture(np.random.default_rng(seed), GENERATED_SIDE)
        image = torch.from_numpy(pixels).permute(2, 0, 1)
        yield f"picture {seed + 1}", image[torch.arange(channels) % len(image)].float() if channels else image
