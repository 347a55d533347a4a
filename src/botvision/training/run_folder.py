"""What is in the folder of a run: what it was started with, and the scores of its last evaluation."""

import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from yaml.composer import ComposerError
from yaml.nodes import Node

from botvision.errors import UserError
from botvision.files import read_file, write_text
from botvision.training.config import ExperimentConfig
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
    import lightning_fabric  # here, as other commands read run folders without PyTorch
    import torch
    import torchvision

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
