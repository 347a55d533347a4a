"""The folder of a run: where it is, what it was started with, and the scores of its last evaluation."""

import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import lightning_fabric
import torch
import torchvision
import yaml
from filelock import FileLock, Timeout
from yaml.composer import ComposerError
from yaml.nodes import Node

from botvision.configuration import FieldError
from botvision.errors import UserError
from botvision.files import read_file, write_text
from botvision.training.config import ExperimentConfig
from botvision.training.sharing import on_first_process
from botvision.version import __version__

LARGEST_CONFIG = 2**20
"""Bytes of a ``config.yaml``."""


class PlainLoader(yaml.SafeLoader):
    """Reads YAML without aliases, by which a few lines can mean gigabytes."""

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        """The next node.

        Raises:
            ComposerError: it is an alias.
        """
        if self.check_event(yaml.AliasEvent):
            raise ComposerError(None, None, "aliases (*name) are not read", self.peek_event().start_mark)
        return super().compose_node(parent, index)


class RunRecord(NamedTuple):
    """What ``config.yaml`` says of a run."""

    experiment: str
    """Name of the experiment."""
    task: str
    """Name of the task."""
    settings: dict[str, Any]
    """The sections of the task's configuration, not checked yet."""


@contextmanager
def lock_run(folder: Path, *, new: bool) -> Iterator[None]:
    """Let no other run train in a folder meanwhile; the first of the processes of this run holds the lock for all.

    The lock is the system's own, on an open file, so it ends with the process that holds it, however that ends.

    Args:
        folder: of the run.
        new: after an error without a checkpoint, remove the folder: it cannot be resumed.

    Raises:
        UserError: another process trains in it.
    """
    lock = FileLock(folder / ".lock", timeout=0)

    def acquire() -> None:
        try:
            lock.acquire()
        except Timeout as error:
            raise UserError(f"{folder} is being trained by another process") from error

    on_first_process(acquire)
    try:
        yield
    except BaseException:
        if new and lock.is_locked and not (folder / "checkpoints" / "last.ckpt").is_file():
            shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        if lock.is_locked:
            Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()


def make_run_folder(wanted: Path | None, name: str) -> Path:
    """Make the folder of a new run: the wanted one, or runs/<name>, with a number added if that is taken.

    Raises:
        FieldError: the wanted one is not empty.
    """
    if wanted is None:
        return numbered_folder(Path("runs") / name.replace("/", "-"))
    if wanted.exists() and (not wanted.is_dir() or any(wanted.iterdir())):
        raise FieldError(("out",), f"{wanted} is taken; choose another folder, or resume the run in it")
    wanted.mkdir(parents=True, exist_ok=True)
    return wanted


def numbered_folder(base: Path) -> Path:
    """Make ``base``, or ``base-2``, ``base-3`` and so on if the ones before exist."""
    number = 1
    while True:
        folder = base if number == 1 else base.with_name(f"{base.name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder


def describe_run(folder: Path, name: str, task: str, experiment: ExperimentConfig) -> None:
    """Write ``config.yaml``, with the names of the experiment and of its task, and ``environment.json``."""
    write_config(folder, name, task, experiment)
    write_text(folder / "environment.json", json.dumps(environment(), indent=2) + "\n")


def write_config(folder: Path, name: str, task: str, experiment: ExperimentConfig) -> None:
    """Write ``config.yaml``, with the names of the experiment and of its task."""
    content = {"experiment": name, "task": task, **experiment.plain()}
    write_text(folder / "config.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def read_config(folder: Path) -> RunRecord:
    """Read ``config.yaml`` of a run.

    Raises:
        UserError: not a run folder, or a file that is damaged or has no "experiment" and "task".
    """
    file = folder / "config.yaml"
    if not file.is_file():
        raise UserError(f"{folder} is no run folder: it has no config.yaml")
    try:
        content = yaml.load(read_file(file, LARGEST_CONFIG).decode(), PlainLoader)
    except (yaml.YAMLError, OSError, ValueError, RecursionError) as error:  # of bytes that are no UTF-8, of nesting
        raise UserError(f"{file} is no readable YAML: {' '.join(str(error).split())}") from error
    for name in ("experiment", "task"):
        if not isinstance(content, dict) or not isinstance(content.get(name), str):
            raise UserError(f"{file} is no configuration of a run: it has no {name!r}")
    return RunRecord(content.pop("experiment"), content.pop("task"), content)


def environment() -> dict[str, Any]:
    """What the run ran on."""
    return {
        "botvision": __version__,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "lightning_fabric": lightning_fabric.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "command": sys.argv,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def read_scores(folder: Path, step: int) -> dict[str, Any] | None:
    """The content of ``eval/metrics.json`` without "step"; None if no evaluation of this step was completed."""
    content = read_evaluation(folder)
    return content if content.pop("step", None) == step else None


def read_evaluation(folder: Path) -> dict[str, Any]:
    """The content of ``eval/metrics.json``: "step" and the scores of the last evaluation; empty if there was none.

    Raises:
        UserError: the file is damaged.
    """
    file = folder / "eval" / "metrics.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ValueError as error:
        raise UserError(f"{file} is no readable JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} should hold an object with the scores")
    return content
