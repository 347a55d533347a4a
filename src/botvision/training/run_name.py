"""A run is a name: the same experiment with the same settings goes on with the run in its folder."""

import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from botvision.configuration import FieldError
from botvision.errors import UserError, short
from botvision.files import TEMPORARY
from botvision.training.config import ExperimentConfig
from botvision.training.run_folder import read_config
from botvision.training.run_lock import RunLock

RUNS = Path("runs")
"""Where runs without a folder of their own are."""
MAY_DIFFER = {
    "run": {
        *("out", "device", "strategy", "threads", "compile", "images_per_device"),
        *("save_every", "keep_checkpoints", "log_every"),
    },
    "data": {"workers"},
}
"""Fields, by section, with other values of which a run goes on: they say where and how fast it computes and what it
writes down, not what it computes. (device and compile change how results are rounded. images_per_device changes the
statistics of batch norm where its product with the number of processes is another one, which a warning says.)"""


class OtherSettingsError(FieldError):
    """A run was started with another value of a field.

    Args:
        path: of the field.
        folder: of the run.
        problem: both values.
    """

    def __init__(self, path: tuple[str, ...], folder: Path, problem: str) -> None:
        super().__init__(path, problem)
        self.folder = folder


class OtherRunError(UserError):
    """A folder has a run of another experiment, or of another version of it."""


def open_run(out: Path | None, name: str, task: str, experiment: ExperimentConfig, lock: RunLock) -> Path:
    """Find or make the folder of a run, and lock it.

    It is ``out``, or the first of runs/<name>, -2, -3 and so on that has these settings or is not there yet. One
    without ``config.yaml``, as of a run killed at its start, counts as not there.

    Raises:
        OtherSettingsError: the run in ``out`` has other settings.
        FieldError: ``out`` is something else than a run.
        UserError: another process trains in it, or a ``config.yaml`` cannot be read: who wants to go on with that run
            would not want another one.
    """
    for folder in [out] if out else numbered(RUNS / name.replace("/", "-")):
        try:
            is_new = check_same(folder, name, task, experiment)
        except (FieldError, OtherRunError):
            if out:
                raise
            continue
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.take(folder)
        except UserError:
            if out or not is_new:
                raise
            continue  # another run has just begun there
        check_same(folder, name, task, experiment)  # again: now nobody else can begin there
        return folder
    raise AssertionError("numbers do not end")


def numbered(base: Path) -> Iterator[Path]:
    """``base``, ``base-2``, ``base-3`` and so on."""
    return (base if number == 1 else base.with_name(f"{base.name}-{number}") for number in count(1))


def numbered_folder(base: Path) -> Path:
    """Make ``base``, or ``base-2``, ``base-3`` and so on if the ones before exist."""
    folder = next(folder for folder in numbered(base) if not folder.exists())
    folder.mkdir(parents=True)
    return folder


def check_same(folder: Path, name: str, task: str, experiment: ExperimentConfig) -> bool:
    """Refuse a folder that holds something else than this run; gives whether it holds nothing yet.

    Raises:
        OtherSettingsError: a run with other settings; the first field that differs is named, with both values.
        FieldError: something else than a run.
        OtherRunError: another experiment, or settings that this version does not know.
        UserError: a ``config.yaml`` that cannot be read.
    """
    if not (folder / "config.yaml").is_file():
        if folder.exists() and (not folder.is_dir() or any(not is_leftover(file) for file in folder.iterdir())):
            raise FieldError(("out",), f"'{folder}' is taken by something else than a run; choose another folder")
        return True
    record = read_config(folder)
    if (record.experiment, record.task) != (name, task):
        raise OtherRunError(f"{folder} is a run of {record.experiment} ({record.task}), not of {name} ({task})")
    try:
        before = type(experiment)(**{str(section): value for section, value in record.settings.items()})
    except FieldError as error:
        raise OtherRunError(f"{folder / 'config.yaml'}: {error}") from error
    for path, old, new in differences(before.plain(), experiment.plain()):
        raise OtherSettingsError(path, folder, f"is {short(old)} in the run '{folder}', and {short(new)} here")
    return False


def differences(before: dict[str, Any], now: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """The paths of the fields that differ and may not, with both values."""
    for section, fields in now.items():
        for field, value in fields.items():
            if before[section][field] != value and field not in MAY_DIFFER.get(section, ()):
                yield (section, field), before[section][field], value


def is_leftover(file: Path) -> bool:
    """Whether a file is what a run leaves that is killed while it begins."""
    return file.name == ".lock" or TEMPORARY.fullmatch(file.name) is not None


def remove_if_lost(folder: Path) -> None:
    """Remove the folder of a run that ended before its first checkpoint."""
    if not any((folder / "checkpoints").glob("*.ckpt")):
        shutil.rmtree(folder, ignore_errors=True)
        if folder.parent == RUNS and RUNS.is_dir() and not any(RUNS.iterdir()):
            RUNS.rmdir()
