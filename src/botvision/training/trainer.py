"""The training loop: a run from its first step, or from its last checkpoint, to the end."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from rich.console import Console
from torch import nn

from botvision.data.loading import Batch, RunBatches, leave_process_group, mixed_seed
from botvision.errors import NotFiniteError, StoppedError, UserError
from botvision.files import remove_leftovers
from botvision.training.checkpoint import recover
from botvision.training.memory import check_memory
from botvision.training.processes import launch
from botvision.training.run_folder import describe_run, read_config, read_scores, write_config
from botvision.training.run_lock import RunLock
from botvision.training.run_name import open_run, remove_if_lost
from botvision.training.run_state import BatchBox, RunState, evaluated_step
from botvision.training.sharing import gather_or_raise, on_every_process, on_first_process
from botvision.training.signals import StopSignals
from botvision.training.starting import check_same_data, initial_weights, last_checkpoint, warn_of_other_statistics
from botvision.training.step_losses import StepLosses
from botvision.training.trainable import Trainable


class Outcome(NamedTuple):
    """How a run ended."""

    folder: Path
    steps: int
    """Optimiser steps done."""
    stopped: bool
    """A signal ended it early; it can be resumed."""
    scores: dict[str, Any] | None
    """Of the last evaluation; None if there was none."""
    requeue: bool = False
    """The signal came from a scheduler, so that the run is to be started again."""


def start(task: Trainable, name: str, console: Console) -> Outcome:
    """Train an experiment, ``name``, in its folder: from the first step, or on from the last checkpoint of this run.

    Raises:
        OtherSettingsError: the folder has a run with other settings.
        UserError: weights or settings that the user can fix; a run that had not begun leaves no folder then.
    """
    run, kind = task.experiment.run, task.describe()["task"]
    fabric = launch(run)
    check_same_data(task)
    with RunLock() as lock:
        folder = on_first_process(lambda: open_run(run.out, name, kind, task.experiment, lock))
        if on_first_process(lambda: tidy(folder, run.keep_checkpoints)):
            return go_on(task, folder, fabric, console)
        try:
            return begin(task, name, folder, fabric, console)
        except BaseException:
            if fabric.is_global_zero:
                remove_if_lost(folder)
            raise


def resume(task: Trainable, folder: Path, console: Console) -> Outcome:
    """Continue a run from its last checkpoint; a complete run is left as it is.

    The task is that of the folder's ``config.yaml``; other ``steps`` or ``epochs`` replace those there.

    Raises:
        FieldError: the run has done more steps than the task asks for.
        UserError: no checkpoint, damaged ones, one of another model, or a run that another process is training.
    """
    run = task.experiment.run
    fabric = launch(run)
    check_same_data(task)
    with RunLock() as lock:
        on_first_process(lambda: lock.take(folder))
        if not on_first_process(lambda: tidy(folder, run.keep_checkpoints)):
            last = folder / "checkpoints" / "last.ckpt"
            raise UserError(f"{last} is missing: the run ended before it; the command that began the run begins again")
        return go_on(task, folder, fabric, console)


def tidy(folder: Path, keep: int) -> bool:
    """Remove what killed processes left in a run folder; gives whether it has a checkpoint, now ``last.ckpt``."""
    remove_leftovers(folder)
    return recover(folder / "checkpoints", keep)


def begin(task: Trainable, name: str, folder: Path, fabric: Fabric, console: Console) -> Outcome:
    """Train from the first step."""
    run = task.experiment.run

    def initial_model() -> nn.Module:
        torch.manual_seed(run.seed)
        model = task.make_model()
        if run.weights:
            report = task.load_weights(model, initial_weights(run.weights))
            if fabric.is_global_zero:
                console.print(f"{run.weights}: {report}", highlight=False, soft_wrap=True)
        return model

    model = on_every_process(initial_model)
    check_memory(task, model, fabric)
    on_first_process(lambda: describe_run(folder, name, task.describe()["task"], task.experiment))
    return fit(RunState(task, model, folder, None, fabric, console))


def go_on(task: Trainable, folder: Path, fabric: Fabric, console: Console) -> Outcome:
    """Train on from the last checkpoint; a complete run is left as it is."""
    content = last_checkpoint(task, folder)
    done, steps = content["step"], task.experiment.run.total_steps(task.images)
    is_complete = done == steps == evaluated_step(content, folder)
    scores = on_first_process(lambda: read_scores(folder, done) if is_complete else None)
    how = "is complete" if scores is not None else "goes on"
    if fabric.is_global_zero:
        console.print(f"{folder} {how}: {done} of {steps} steps", highlight=False, soft_wrap=True)
    if scores is not None:
        return Outcome(folder, done, False, scores)
    model = on_every_process(task.make_model)
    images = task.experiment.run.images_at_once(fabric.world_size) * fabric.world_size
    warn_of_other_statistics(model, content.get("images_at_once"), images)
    check_memory(task, model, fabric)
    state = RunState(task, model, folder, content, fabric, console)

    def note_settings() -> None:
        record = read_config(folder)
        write_config(folder, record.experiment, record.task, task.experiment)

    on_first_process(note_settings)
    return fit(state)


def fit(state: RunState) -> Outcome:
    """Train to the last step, or until a signal asks to stop, and explain what went wrong.

    Raises:
        NotFiniteError: a loss or the weights are infinite or NaN; ``last.ckpt`` is the last good one.
        UserError: the memory is too small, the disk is full, or images cannot be read.
        KeyboardInterrupt: a second Ctrl-C.
    """
    if state.fabric.is_global_zero:
        state.task.announce(state.folder)
    signals = StopSignals()
    try:
        with signals, state.reporter:
            stopped = train(state, signals)
            requeue = stopped and any(gather_or_raise(lambda: signals.requeue))
    except StoppedError:  # while it waited for data, so that it leaves without the others
        stopped, requeue = True, signals.requeue
    except NotFiniteError as error:
        if state.fabric.is_global_zero:
            state.checkpoints.withdraw()
        weights = f" from its last good weights (weights: {state.folder})" if state.checkpoints.last.is_file() else ""
        raise NotFiniteError(f"{error}; start a new run{weights} with a smaller lr, or with clip_norm") from error
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"images_per_device: the GPU has too little memory for {state.images_at_once} images at once; choose "
            "fewer: gradients then accumulate to the same batch_size"
        ) from error
    except RuntimeError as error:
        if not signals.asked:
            raise
        if not signals.requeue:  # a second signal ended a process that reads images for an evaluation
            raise KeyboardInterrupt from error
        stopped = requeue = True  # another process of the run has gone already
    finally:
        state.metrics.close()
    return Outcome(state.folder, state.checkpoints.step if stopped else state.step, stopped, state.scores, requeue)


def train(state: RunState, signals: StopSignals) -> bool:
    """The loop over the steps that are left, with the evaluations; returns whether a signal stopped it."""
    task, run, metrics = state.task, state.task.experiment.run, state.metrics
    evaluation_interval = run.evaluation_interval(task.images)
    step_losses = StepLosses(task.columns, state.fabric.device)
    batches = training_batches(state)

    def evaluates(step: int) -> bool:
        return step % evaluation_interval == 0 or step == state.steps

    if evaluates(state.step) and state.evaluated < state.step and stops_in_evaluation(state, signals):  # now due
        return True

    for step in range(state.step + 1, state.steps + 1):
        state.set_rate(task.rate(step - 1, state.steps))
        try:
            forward_and_backward(state, step, batches, step_losses, signals)
        except StoppedError:
            save_before_step(state, step_losses)
            raise
        if run.clip_norm is not None:
            state.fabric.clip_gradients(
                state.losses, state.fabric_optimizer, max_norm=run.clip_norm, error_if_nonfinite=False
            )
        state.fabric_optimizer.step()
        state.fabric_optimizer.zero_grad()
        if state.average:
            state.average.update(state.model, step)
        task.after_step(state.model, step)
        state.step = step

        saves = evaluates(step) or step % run.save_every == 0
        logs = step % run.log_every == 0 or step == state.steps
        step_losses.end_step(step, stop=signals.asked, failed=state.skipped.problem is not None)
        stops = judge(state, step_losses, wait=saves or logs)  # raises where a loss is not finite
        if logs:
            metrics.write_losses(step, state.optimizer.param_groups[0]["lr"])
        state.reporter.show("training, step", step, state.steps, metrics.progress())
        if saves:
            state.save()
        if stops:
            judge(state, step_losses, wait=True)
            state.save()
            return True
        if evaluates(step) and stops_in_evaluation(state, signals):
            return True
    return False


def save_before_step(state: RunState, step_losses: StepLosses) -> None:
    """Save if the step that is cut off has changed nothing yet.

    Its first batch changes the batch norms. And of several processes others can have had theirs.
    """
    if state.fabric.world_size == 1 and step_losses.batches == 0:
        judge(state, step_losses, wait=True)
        state.save()


def stops_in_evaluation(state: RunState, signals: StopSignals) -> bool:
    """Evaluate; returns whether a signal stopped it, so that it is due when the run goes on."""
    try:
        state.evaluate(signals)
    except StoppedError:
        return True
    return False


def forward_and_backward(
    state: RunState, step: int, batches: Iterator[Batch], step_losses: StepLosses, signals: StopSignals
) -> None:
    """Losses and gradients of the batches of a step; the gradients accumulate.

    Random numbers follow from (seed, batch, process), so that a resumed run draws the same.

    Raises:
        StoppedError: a signal came, and the next batch does not.
    """
    fabric, count = state.fabric, state.batches_per_step
    for index in range(count):
        started = time.perf_counter()
        with signals.waiting():  # here, too, for tasks whose loader is not the package's own
            batch = next(batches)
        state.metrics.waited += time.perf_counter() - started
        state.skipped.count(batch)
        place = ((step - 1) * count + index) * fabric.world_size + fabric.global_rank
        torch.manual_seed(mixed_seed(state.task.experiment.run.seed, place))
        with fabric.no_backward_sync(state.losses, enabled=index < count - 1):
            losses = state.losses(BatchBox(fabric.to_device(batch)))
            fabric.backward(losses["loss"] / count)
        step_losses.add(losses)


def judge(state: RunState, step_losses: StepLosses, *, wait: bool) -> bool:
    """Take in the results of the steps that have arrived; returns whether a process was asked to stop.

    Raises:
        NotFiniteError: a loss is infinite or NaN.
        UserError: too many images could not be read.
    """
    stops = False
    for result in step_losses.results(wait=wait):
        state.metrics.add(result.losses)
        if result.failed:
            raise UserError(state.skipped.problem or "another process could not read too many of its images")
        if state.fabric.is_global_zero:
            state.checkpoints.confirm()  # of a step before this one: its weights gave a finite loss
        stops |= result.stop
    return stops


def training_batches(state: RunState) -> Iterator[Batch]:
    """The batches of this process that are left."""
    batches = RunBatches(
        state.task.images,
        state.images_at_once,
        state.steps * state.batches_per_step,
        seed=state.task.experiment.run.seed,
        start=state.step * state.batches_per_step,
        rank=state.fabric.global_rank,
        world=state.fabric.world_size,
    )
    loader = state.task.loader(batches)
    loader.worker_init_fn = leave_process_group
    return iter(loader)
