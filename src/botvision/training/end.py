"""The evaluation at the end of a run, made up for where it failed or was interrupted."""

import shutil
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from botvision.checkpoint import read_checkpoint
from botvision.files import whole_file
from botvision.training.follow import check_weights
from botvision.training.metrics import add_row, columns_of
from botvision.training.processes import first_process, pick_device, processes
from botvision.training.progress import Reporter
from botvision.training.settings import per_device
from botvision.training.task import Task


def evaluate_end(task: Task, folder: Path, console: Console) -> dict[str, Any]:
    """Score the last checkpoint of a run whose steps are all done, and write what its own evaluation would have.

    Raises:
        UserError: data, or weights, that cannot be evaluated.
    """
    run = task.experiment.run
    if run.threads:
        torch.set_num_threads(run.threads)
    device = pick_device(run.device)
    devices, machines = processes(device)
    checkpoints = folder / "checkpoints"
    content = read_checkpoint(checkpoints / "last.ckpt")
    state = content.get("ema_state_dict", content["state_dict"])
    model = task.make_model()
    model.load_state_dict({name.removeprefix("model."): value for name, value in state.items()})
    check_weights(model)
    with Reporter(console) as reporter:
        evaluation = task.evaluate(
            model.to(device),
            per_device(task.experiment, devices * machines),
            lambda done, total: reporter.show("evaluating, image", done, total),
        )
    if first_process():
        step = content["global_step"]
        add_row(folder / "metrics.csv", columns_of(task), {"step": step, **evaluation.columns})
        if evaluation.best > content["callbacks"]["SaveCheckpoints"]["best"]:
            with whole_file(checkpoints / "best.ckpt") as temporary:
                shutil.copyfile(checkpoints / "last.ckpt", temporary)
        (checkpoints / "before.ckpt").unlink(missing_ok=True)  # the last one is good
        task.write(folder / "eval", evaluation, step)
        console.print(f"step {step}: {evaluation.text}", highlight=False, soft_wrap=True)
    return evaluation.scores
