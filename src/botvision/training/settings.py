"""What follows from the settings of a run, and settings that cannot run, refused before anything is written."""

import math

from botvision.errors import UserError
from botvision.training.config import Experiment, at_least
from botvision.training.processes import pick_device


def check(experiment: Experiment) -> None:
    """Refuse settings that cannot run; what a section can judge alone, it has refused already.

    Raises:
        UserError: naming the flag, what it has and what it could have.
    """
    run = experiment.run
    data = experiment.data
    at_least(
        1,
        {
            "--batch-size": run.batch_size,
            "--images-per-device": run.images_per_device,
            "--threads": run.threads,
            "--steps": run.steps,
        },
    )
    at_least(1, {"--save-every": run.save_every, "--log-every": run.log_every, "--eval-every": run.eval_every})
    at_least(1, {"--train-images": data.train_images, "--val-images": data.val_images})
    at_least(0, {"--workers": data.workers})
    if not 0 < run.epochs < math.inf:
        raise UserError(f"--epochs must be more than 0 and finite, got {run.epochs}")
    if not 0 <= run.seed < 2**32:  # what NumPy's generators take
        raise UserError(f"--seed must be between 0 and {2**32 - 1}, got {run.seed}")
    pick_device(run.device)
    per_device(experiment, 1)


def per_device(experiment: Experiment, world: int) -> int:
    """Images that each of ``world`` devices takes at once.

    Raises:
        UserError: the batch does not come out even.
    """
    run = experiment.run
    images = run.images_per_device or max(1, run.batch_size // world)
    if run.batch_size % (images * world):
        raise UserError(
            f"--batch-size {run.batch_size} does not divide into {world} device(s) of {images} images; "
            f"choose --batch-size a multiple of {images * world}"
        )
    return images


def total_steps(experiment: Experiment, images: int) -> int:
    """Optimiser steps of the whole run."""
    run = experiment.run
    return run.steps or max(1, math.ceil(run.epochs * images / run.batch_size))


def evaluate_every(experiment: Experiment, images: int) -> int:
    """Steps between two evaluations: as set, else an epoch, or a twentieth of the run where epochs are shorter."""
    run = experiment.run
    return run.eval_every or math.ceil(max(images / run.batch_size, total_steps(experiment, images) / 20))
