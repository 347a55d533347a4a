"""A run: its folder, and the training from the first step, or from the last checkpoint, to the end."""

import logging
import math
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from rich.console import Console

from botvision.checkpoint import read_checkpoint
from botvision.data import CocoDetection, eval_transform, train_transform
from botvision.data.loading import RunBatches, training_loader
from botvision.detection import MaskRCNN
from botvision.detection.checkpoint import describe
from botvision.errors import UserError
from botvision.models import LoadReport, load_weights, read_state_dict
from botvision.training.checkpoints import SaveCheckpoints, WholeCheckpoints
from botvision.training.config import DetectionExperiment, at_least
from botvision.training.follow import Follow
from botvision.training.interrupt import StopOnSignal
from botvision.training.metrics import Metrics
from botvision.training.module import DetectionModule
from botvision.training.processes import first_process, pick_device, processes
from botvision.training.progress import Reporter
from botvision.training.run_folder import describe_run, read_run, read_scores, run_folder


class Outcome(NamedTuple):
    """How a run ended."""

    folder: Path
    steps: int
    stopped: bool
    """Ended early by a signal; it can be resumed."""
    scores: dict[str, Any] | None
    """Of the last evaluation; None if there was none."""


def start_run(experiment: DetectionExperiment, name: str, console: Console) -> Outcome:
    """Train from the first step in a new run folder.

    Args:
        experiment: everything that the run is made of.
        name: of the experiment, for the folder's name.
        console: where progress goes.

    Raises:
        UserError: data, weights or settings that the user can mend; the run folder is then not made.
    """
    check(experiment)
    if experiment.data.data:  # a run can be resumed from any folder
        experiment = replace(experiment, data=replace(experiment.data, data=experiment.data.data.absolute()))
    train_set, val_set = data_sets(experiment)
    pl.seed_everything(experiment.run.seed, verbose=False)
    model = MaskRCNN(experiment.model, len(train_set.categories))
    if experiment.run.weights:
        console.print(f"{experiment.run.weights}: {start_from(model, experiment.run.weights)}", highlight=False)
    devices, machines = processes(pick_device(experiment.run.device))
    per_device(experiment, devices * machines)  # refused before anything is written
    folder = experiment.run.out or Path("runs")
    if first_process():  # of several processes the first makes the folder and writes all files
        folder = run_folder(experiment.run.out, name)
        describe_run(folder, name, experiment)
    return fit(Job(experiment, model, train_set, val_set, folder, checkpoint=None), console)


def resume_run(folder: Path, console: Console) -> Outcome:
    """Go on with a run from its last checkpoint; a run that is complete is left as it is.

    Raises:
        UserError: no run folder, a damaged checkpoint or configuration, or one that does not belong to the other.
    """
    _, experiment = read_run(folder)
    check(experiment)
    last = folder / "checkpoints" / "last.ckpt"
    if not last.is_file():
        raise UserError(f"{last} is not there: the run ended before its first checkpoint, start it anew")
    content = read_checkpoint(last)
    train_set, val_set = data_sets(experiment)
    expected = describe(experiment.model, train_set.categories)
    if any(content["botvision"][part] != expected[part] for part in ("model", "categories")):
        raise UserError(f"{last} is of another model or other classes than {folder / 'config.yaml'} and its data say")
    done = int(content["global_step"])
    steps = total_steps(experiment, len(train_set))
    if done >= steps:
        console.print(f"{folder} is complete: {done} of {steps} steps", highlight=False)
        return Outcome(folder, done, False, read_scores(folder))
    model = MaskRCNN(experiment.model, len(train_set.categories))
    return fit(Job(experiment, model, train_set, val_set, folder, checkpoint=last), console)


class Job(NamedTuple):
    """What there is to train, and where it goes."""

    experiment: DetectionExperiment
    model: MaskRCNN
    train_set: CocoDetection
    val_set: CocoDetection
    folder: Path
    checkpoint: Path | None
    """To go on from; None starts with the first step."""


def fit(job: Job, console: Console) -> Outcome:
    """Train to the end, or until a signal asks to stop."""
    quieten_engine()
    run = job.experiment.run
    if run.threads:
        torch.set_num_threads(run.threads)
    trainer = make_trainer(job.experiment)
    batches = run_batches(job, trainer)
    steps = total_steps(job.experiment, len(job.train_set))
    save = SaveCheckpoints(job.folder / "checkpoints", run.save_every)
    metrics = Metrics(job.folder, run.log_every, steps, run.batch_size, len(job.train_set))
    interrupt = StopOnSignal(save)
    every = evaluate_every(job.experiment, len(job.train_set))
    with Reporter(console) as reporter:
        follow = Follow(job.folder, job.val_set, every, steps, batches.batch_size, metrics, save, reporter)
        trainer.callbacks += [metrics, follow, save, interrupt]  # type: ignore[attr-defined]
        module = DetectionModule(job.experiment, job.model, job.train_set.categories, steps)
        loader = training_loader(job.train_set, batches, job.experiment.data.workers)
        try:
            trainer.fit(module, loader, ckpt_path=job.checkpoint, weights_only=True)
        except BaseException as error:
            if job.checkpoint is None and trainer.global_step == 0 and first_process():
                shutil.rmtree(job.folder, ignore_errors=True)  # no step was made: there is nothing to keep
            if isinstance(error, SystemExit):  # the engine's answer to a second Ctrl-C
                raise KeyboardInterrupt from error
            raise
    return Outcome(job.folder, trainer.global_step, interrupt.stopped, follow.scores)


def run_batches(job: Job, trainer: pl.Trainer) -> RunBatches:
    """This process's batches from the checkpoint on; sets the trainer's accumulation to what the batch size needs."""
    run = job.experiment.run
    images = per_device(job.experiment, trainer.world_size)
    trainer.accumulate_grad_batches = run.batch_size // (images * trainer.world_size)
    done = int(read_checkpoint(job.checkpoint)["global_step"]) if job.checkpoint else 0
    return RunBatches(
        len(job.train_set),
        images,
        total_steps(job.experiment, len(job.train_set)) * trainer.accumulate_grad_batches,
        seed=run.seed,
        start=done * trainer.accumulate_grad_batches,
        rank=trainer.global_rank,
        world=trainer.world_size,
    )


def make_trainer(experiment: DetectionExperiment) -> pl.Trainer:
    """The training engine: one pass over a loader that is as long as the run."""
    run = experiment.run
    device = pick_device(run.device)
    devices, machines = processes(device)
    return pl.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=devices,
        num_nodes=machines,
        precision="bf16-mixed" if run.precision == "bfloat16" else "32-true",
        max_epochs=1,
        min_epochs=0,
        limit_val_batches=0,
        gradient_clip_val=experiment.optimizer.clip_norm,
        sync_batchnorm=device.type == "cuda",  # there is none for processors
        plugins=[WholeCheckpoints()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def quieten_engine() -> None:
    """Silence what the engine says of itself; its advice on loaders does not apply, this one does resume."""
    for engine in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(engine).setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module=engine)


def evaluate_every(experiment: DetectionExperiment, images: int) -> int:
    """Steps between two evaluations: as set, else an epoch, or a twentieth of the run where epochs are shorter."""
    run = experiment.run
    return run.eval_every or math.ceil(max(images / run.batch_size, total_steps(experiment, images) / 20))


def data_sets(experiment: DetectionExperiment) -> tuple[CocoDetection, CocoDetection]:
    """The images to train on and those to evaluate on.

    Raises:
        UserError: no data folder given, something wrong in it, or splits with other classes.
    """
    data, size = experiment.data, experiment.model.input_size
    if data.data is None:
        raise UserError("--data is missing: a folder in COCO's layout, with annotations/ and the images")
    train_set = CocoDetection(
        data.data, data.train_split, train_transform(size, data.jitter, data.flip), limit=data.train_images
    )
    val_set = CocoDetection(data.data, data.val_split, eval_transform(size), limit=data.val_images)
    if not len(train_set):
        raise UserError(f"{train_set.annotation_file}: no image to train on")
    if train_set.categories != val_set.categories:
        raise UserError(f"{val_set.annotation_file}: its categories are not those of {train_set.annotation_file}")
    return train_set, val_set


def start_from(model: MaskRCNN, weights: Path) -> LoadReport:
    """Put initial weights into the whole detector, or into its backbone where they are a backbone's."""
    state = {name.removeprefix("model."): value for name, value in read_state_dict(weights).items()}
    whole = any(name.startswith("backbone.") for name in state)
    return load_weights(model if whole else model.backbone.body, state)


def check(experiment: DetectionExperiment) -> None:
    """Refuse settings that cannot run, before anything is written.

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
    if not 0 < data.jitter[0] <= data.jitter[1] < math.inf:
        raise UserError(f"--jitter must be two factors above 0, the smaller one first, got {data.jitter}")
    if not 0 <= data.flip <= 1:
        raise UserError(f"--flip must be between 0 and 1, got {data.flip}")
    pick_device(run.device)
    per_device(experiment, 1)


def per_device(experiment: DetectionExperiment, world: int) -> int:
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


def total_steps(experiment: DetectionExperiment, images: int) -> int:
    """Optimiser steps of the whole run."""
    run = experiment.run
    return run.steps or max(1, math.ceil(run.epochs * images / run.batch_size))
