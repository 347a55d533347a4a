"""Export a model: trace, write, compare with the model on photographs, and keep the file only where they agree."""

import logging
import statistics
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from botvision.errors import UserError
from botvision.export.formats import FORMATS
from botvision.export.tracing import traced, why_fixed
from botvision.files import whole_file
from botvision.models import fold
from botvision.tasks.exportable import Exportable, Tensors

logger = logging.getLogger("botvision")

LEAST_RUNS, MOST_RUNS, TIMED_SECONDS = 3, 11, 20
"""Runs of the model and of its export, in turn, of which the median counts: the most, unless they take so long."""

OnStep = Callable[[str], None]


class Export(NamedTuple):
    """What was written, and what was seen of it."""

    path: Path
    size: int
    """In bytes."""
    images: int
    """How many the export was compared on, batches and mirrored images not counted."""
    input_shape: tuple[int, ...]
    """Of the images that were timed."""
    eager_seconds: float
    """Median time of the model for them."""
    seconds: float
    """The same of the export."""


@torch.no_grad()
def export_model(
    exportable: Exportable,
    format_name: str,
    path: Path,
    images: Iterable[tuple[str, Tensor]],
    on_step: OnStep = lambda step: None,
) -> Export:
    """Write a model in a format; the file is kept only where it agrees with the model on every image.

    Args:
        exportable: the model.
        format_name: one of :data:`~botvision.export.formats.FORMATS`.
        path: of the file.
        images: photographs by name, (C, H, W) as the model is trained on, at least one.
        on_step: told what is done next.

    Raises:
        UserError: something is not installed, or the export disagrees with the model; no file is then left.
    """
    chosen = FORMATS[format_name]
    chosen.check_installed()
    photographs = iter(images)
    name, first = next(photographs)
    reason = why_fixed(exportable)
    if reason:
        logger.warning("height and width are fixed at %d pixels: %s", exportable.input_size, reason)
    with whole_file(path) as temporary:
        temporary.touch()  # where it cannot be written, this is said now and not in a minute
        on_step("tracing the model")
        with chosen.operators():
            program = traced(exportable, fold(exportable.program), square(exportable, first))
        on_step(f"writing {path}")
        chosen.write(program, exportable, temporary)
        run = chosen.open(temporary)
        on_step("comparing it with the model")
        prepare = partial(square, exportable) if reason else lambda image: image
        named = chain([(name, first)], photographs)
        count = check(exportable, run, ((name, prepare(image)) for name, image in named))
    on_step("timing both")
    inputs = exportable.inputs(square(exportable, first))
    eager, own = median_seconds((exportable.eager, run), inputs)
    return Export(path, path.stat().st_size, count, tuple(inputs[0].shape), eager, own)


def square(exportable: Exportable, image: Tensor) -> Tensor:
    """The image, stretched to the input size of the model."""
    return F.resize(image, [exportable.input_size, exportable.input_size], antialias=True)


def check(exportable: Exportable, run: Callable[..., Tensors], images: Iterable[tuple[str, Tensor]]) -> int:
    """Compare an export with its model on each image alone, and on the first one and its mirror image as a batch.

    Returns:
        How many images they agree on.

    Raises:
        UserError: they disagree, or nothing can be said of any image.
    """
    agreed = 0
    for number, (name, image) in enumerate(images):
        inputs = exportable.inputs(image)
        agreed += compare(exportable, run, inputs, name)
        if number == 0:
            pair = zip(inputs, exportable.inputs(image.flip(-1)), strict=True)
            compare(exportable, run, tuple(torch.cat(tensors) for tensors in pair), f"a batch of {name} and its mirror")
    if not agreed:
        raise UserError("there is nothing to compare the export on: give photographs with what it finds, by --images")
    return agreed


def compare(exportable: Exportable, run: Callable[..., Tensors], inputs: tuple[Tensor, ...], name: str) -> bool:
    """Whether an export answers as its model does; False, with a warning, where this says nothing.

    Raises:
        UserError: it answers otherwise.
    """
    wanted = exportable.eager(*inputs)
    difference = exportable.difference(wanted, run(*inputs))
    if difference and not exportable.is_undecided(*inputs):
        raise UserError(f"the export disagrees with the model on {name} and was not kept: {difference}")
    if difference:
        logger.warning("%s does not count: rounding alone changes what the model finds there", name)
    elif not exportable.is_telling(wanted):
        logger.warning("%s does not count: the model finds nothing certain there", name)
    else:
        return True
    return False


def median_seconds(calls: Sequence[Callable[..., Tensors]], inputs: tuple[Tensor, ...]) -> list[float]:
    """The time of each call on the processor; they take turns, and the first round does not count."""
    times: list[list[float]] = [[] for _ in calls]
    began = perf_counter()
    for run in range(1 + MOST_RUNS):
        if run > LEAST_RUNS and perf_counter() - began > TIMED_SECONDS:
            break
        for call, own in zip(calls, times, strict=True):
            start = perf_counter()
            call(*inputs)
            own.append(perf_counter() - start)
    return [statistics.median(own[1:]) for own in times]
