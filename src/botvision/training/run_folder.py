"""The folder of a run: where it is, what it says of itself, and what an evaluation leaves in it."""

import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torchvision
import yaml
from filelock import FileLock, Timeout

from botvision.errors import UserError
from botvision.files import write_text
from botvision.training.config import Experiment, from_plain, to_plain
from botvision.training.processes import first_process
from botvision.version import __version__

ABOUT_SCORES = ("step", "most_confused")
"""What eval/metrics.json has beside the scores."""


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Let no other process train a run meanwhile; where that fails before there is a checkpoint, the folder goes.

    The lock is the system's own, on an open file, so it ends with the process that holds it, however that ends.

    Raises:
        UserError: another process trains it.
    """
    if not first_process():  # of several processes of a run the first stands for all
        yield
        return
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError(f"{folder} is being trained by another process") from error
    try:
        yield
    except BaseException:
        if not (folder / "checkpoints" / "last.ckpt").is_file():
            shutil.rmtree(folder, ignore_errors=True)  # it cannot be resumed, and would only be in the way
        raise
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def describe_run(folder: Path, name: str, experiment: Experiment) -> None:
    """Write ``config.yaml`` and ``environment.json``."""
    content = {"experiment": name, **to_plain(experiment)}
    write_text(folder / "config.yaml", yaml.safe_dump(content, sort_keys=False))
    write_text(folder / "environment.json", json.dumps(environment(), indent=2) + "\n")


def run_folder(wanted: Path | None, name: str) -> Path:
    """Make the folder of a new run: the wanted one, or runs/<name> with a number behind it where that is taken.

    Raises:
        UserError: the wanted one holds something already.
    """
    if wanted is None:
        return numbered_folder(Path("runs") / name.replace("/", "-"))
    if wanted.exists() and (not wanted.is_dir() or any(wanted.iterdir())):
        raise UserError(f"--out {wanted} is taken; choose another folder, or go on with train --resume {wanted}")
    wanted.mkdir(parents=True, exist_ok=True)
    return wanted


def numbered_folder(base: Path) -> Path:
    """Make ``base``, or ``base-2``, ``base-3`` ... where the ones before are there already."""
    number = 1
    while True:
        folder = base if number == 1 else base.with_name(f"{base.name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder


def read_run(folder: Path) -> tuple[str, Experiment]:
    """Name and configuration of a run.

    Raises:
        UserError: not a run folder, or a configuration that cannot be read.
    """
    file = folder / "config.yaml"
    if not file.is_file():
        raise UserError(f"{folder} is no run folder: it has no config.yaml")
    try:
        content = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, ValueError) as error:  # the second of bytes that are no text, and of dates that are none
        raise UserError(f"{file} is no readable YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or "experiment" not in content:
        raise UserError(f"{file} is no configuration of a run: it has no 'experiment'")
    return content.pop("experiment"), from_plain(content, file)


def environment() -> dict[str, Any]:
    """What the run ran on."""
    return {
        "botvision": __version__,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "pytorch_lightning": pl.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "command": sys.argv,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def write_evaluation(folder: Path, scores: dict[str, Any], results: list[dict[str, Any]], **about: Any) -> None:  # noqa: ANN401
    """Write ``metrics.json`` and ``detections.json`` (COCO's results format)."""
    write_text(folder / "detections.json", json.dumps(results, allow_nan=False) + "\n")
    write_text(folder / "metrics.json", json.dumps({**about, **scores}, indent=2, allow_nan=False) + "\n")


def read_scores(folder: Path, step: int) -> dict[str, Any] | None:
    """The scores that the evaluation of a step wrote; None if the last one that came to its end was of another."""
    file = folder / "eval" / "metrics.json"
    content = json.loads(file.read_text()) if file.is_file() else {}
    if content.get("step") != step:
        return None
    return {name: value for name, value in content.items() if name not in ABOUT_SCORES}
