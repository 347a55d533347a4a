"""A run: its folder, and the training from the first step, or from the last checkpoint, to the end."""

import logging
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pytorch_lightning as pl
import torch
from rich.console import Console
from torch import Tensor, nn

from botvision.checkpoint import Kind, checkpoint_of, read_checkpoint
from botvision.data.loading import RunBatches, training_loader
from botvision.errors import NotFiniteError, UserError
from botvision.models import read_state_dict
from botvision.training.checkpoints import SaveCheckpoints, WholeCheckpoints
from botvision.training.classification import ClassificationTask
from botvision.training.config import Experiment, kind_of
from botvision.training.detection import DetectionTask
from botvision.training.end import evaluate_end
from botvision.training.follow import Follow
from botvision.training.interrupt import StopOnSignal, stand_apart
from botvision.training.metrics import Metrics
from botvision.training.module import TrainingModule
from botvision.training.processes import first_process, pick_device, processes
from botvision.training.progress import Reporter
from botvision.training.run_folder import alone_in, describe_run, read_run, read_scores, run_folder
from botvision.training.settings import check, per_device, total_steps
from botvision.training.skipped import SkippedImages
from botvision.training.task import Task
from botvision.training.waiting import TimedLoader

TASKS: dict[Kind, type[Task]] = {"detection": DetectionTask, "classification": ClassificationTask}


class Outcome(NamedTuple):
    """How a run ended."""

    folder: Path
    steps: int
    stopped: bool
    """Ended early by a signal; it can be resumed."""
    scores: dict[str, Any] | None
    """Of the last evaluation; None if there was none."""


def start_run(experiment: Experiment, name: str, console: Console) -> Outcome:
    """Train from the first step in a new run folder.

    Args:
        experiment: everything that the run is made of.
        name: of the experiment, for the folder's name.
        console: where progress goes.

    Raises:
        UserError: data, weights or settings that the user can mend; the run folder is then not made.
    """
    check(experiment)
    experiment = findable(experiment)
    task = TASKS[kind_of(experiment)](experiment)
    pl.seed_everything(experiment.run.seed, verbose=False)
    model = task.make_model()
    if experiment.run.weights:
        report = task.start_from(model, initial_weights(experiment.run.weights))
        console.print(f"{experiment.run.weights}: {report}", highlight=False, soft_wrap=True)
    devices, machines = processes(pick_device(experiment.run.device))
    per_device(experiment, devices * machines)  # refused before anything is written
    folder = experiment.run.out or Path("runs")
    if first_process():  # of several processes the first makes the folder and writes all files
        folder = run_folder(experiment.run.out, name)
    with alone_in(folder):
        if first_process():
            describe_run(folder, name, experiment)
        return fit(Job(task, model, folder, checkpoint=None), console)


def resume_run(folder: Path, console: Console) -> Outcome:
    """Go on with a run from its last checkpoint; a run that is complete is left as it is.

    Raises:
        UserError: no run folder, a damaged checkpoint or configuration, one that does not belong to the other, or a run
            that another process is training.
    """
    _, experiment = read_run(folder)
    check(experiment)
    last = folder / "checkpoints" / "last.ckpt"
    before = last.with_name("before.ckpt")
    if before.is_file() and not last.is_file():  # killed between the renaming of the one and of the other
        before.replace(last)
    if not last.is_file():
        raise UserError(f"{last} is not there: the run ended before its first checkpoint, start it anew")
    with alone_in(folder):
        return go_on(experiment, folder, console)


def go_on(experiment: Experiment, folder: Path, console: Console) -> Outcome:
    """Train the rest of a run, or only evaluate it where nothing else is left."""
    last = folder / "checkpoints" / "last.ckpt"
    content = read_checkpoint(last)
    task = TASKS[kind_of(experiment)](experiment)
    expected = {part: value for part, value in task.description().items() if part != "version"}
    if any(content["botvision"].get(part) != value for part, value in expected.items()):
        raise UserError(f"{last} is of another model or other classes than {folder / 'config.yaml'} and its data say")
    done = int(content["global_step"])
    steps = total_steps(experiment, len(task.train_set))
    if done >= steps:
        scores = read_scores(folder, done)
        state = "is complete" if scores else "lacks its last evaluation alone"
        console.print(f"{folder} {state}: {done} of {steps} steps", highlight=False, soft_wrap=True)
        return Outcome(folder, done, False, scores or evaluate_end(task, folder, console))
    return fit(Job(task, task.make_model(), folder, checkpoint=last), console)


def findable(experiment: Experiment) -> Experiment:
    """The experiment with its data named so that a run can be resumed from any folder."""
    where = experiment.data.data
    if where is None or "://" in str(where):
        return experiment
    where_from_anywhere: Any = type(where)(Path(where).absolute())
    data: Any = replace(experiment.data, data=where_from_anywhere)
    return replace(experiment, data=data)


def initial_weights(source: Path) -> dict[str, Tensor]:
    """Weights to start from, named as the network or the whole detector names them.

    Raises:
        UserError: not there, or not readable.
    """
    prefixes = ("model.", "network.")  # of the training module, and of a classifier
    state = read_state_dict(checkpoint_of(source) if source.is_dir() else source)
    for prefix in prefixes:
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


class Job(NamedTuple):
    """What there is to train, and where it goes."""

    task: Task
    model: nn.Module
    folder: Path
    checkpoint: Path | None
    """To go on from; None starts with the first step."""


def fit(job: Job, console: Console) -> Outcome:
    """Train to the end, or until a signal asks to stop."""
    quieten_engine()
    task, run = job.task, job.task.experiment.run
    if run.threads:
        torch.set_num_threads(run.threads)
    trainer = make_trainer(task.experiment)
    batches = run_batches(job, trainer)
    steps = total_steps(task.experiment, len(task.train_set))
    reading = training_loader(task.train_set, batches, task.experiment.data.workers)
    reading.worker_init_fn = stand_apart
    loader = TimedLoader(reading)
    module = TrainingModule(task, job.model.train(), steps)  # the network itself knows which parts stay in test
    if run.compile:
        task.to_compile(job.model).compile()  # in place, so that names of weights stay
    save = SaveCheckpoints(job.folder / "checkpoints", run.save_every)
    metrics = Metrics(job.folder, task, steps, loader)
    interrupt = StopOnSignal(save)
    skipped = SkippedImages(len(task.train_set) // trainer.world_size)
    with Reporter(console) as reporter:
        follow = Follow(job.folder, task, steps, batches.batch_size, metrics, save, reporter)
        trainer.callbacks += [skipped, metrics, follow, save, interrupt]  # type: ignore[attr-defined]
        try:
            trainer.fit(module, loader, ckpt_path=job.checkpoint, weights_only=True)
        except BaseException as error:
            if isinstance(error, NotFiniteError):
                raise NotFiniteError(f"{error}; {mend_of_a_blow_up(job)}") from error
            raise_explained(error, interrupt.asked, batches.batch_size)
    return Outcome(job.folder, trainer.global_step, interrupt.stopped, follow.scores)


def mend_of_a_blow_up(job: Job) -> str:
    """What to do about it. Going on with the run would only repeat it: its settings and its draws are its own."""
    smaller = f"--lr smaller than {job.task.experiment.optimizer.lr}, or with --clip-norm"
    if (job.folder / "checkpoints" / "last.ckpt").is_file():
        return f"start a new run from its good weights: --weights {job.folder}, and {smaller}"
    return f"start it anew with {smaller}"


def raise_explained(error: BaseException, asked_to_stop: bool, images: int) -> NoReturn:
    """Raise what ended a run as its user is to see it: an interruption, what to mend, or the error itself."""
    # The engine answers a second Ctrl-C by leaving; processes that read images for an evaluation do not survive one.
    if isinstance(error, SystemExit) or (asked_to_stop and isinstance(error, RuntimeError)):
        raise KeyboardInterrupt from error
    if isinstance(error, torch.OutOfMemoryError):
        raise UserError(
            f"the GPU's memory does not hold {images} images at once; give a smaller --images-per-device: "
            "gradients then accumulate to the same --batch-size"
        ) from error
    raise error


def run_batches(job: Job, trainer: pl.Trainer) -> RunBatches:
    """This process's batches from the checkpoint on; sets the trainer's accumulation to what the batch size needs."""
    experiment, dataset = job.task.experiment, job.task.train_set
    images = per_device(experiment, trainer.world_size)
    trainer.accumulate_grad_batches = experiment.run.batch_size // (images * trainer.world_size)
    done = int(read_checkpoint(job.checkpoint)["global_step"]) if job.checkpoint else 0
    return RunBatches(
        len(dataset),
        images,
        total_steps(experiment, len(dataset)) * trainer.accumulate_grad_batches,
        seed=experiment.run.seed,
        start=done * trainer.accumulate_grad_batches,
        rank=trainer.global_rank,
        world=trainer.world_size,
    )


def make_trainer(experiment: Experiment) -> pl.Trainer:
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
