"""Kills runs of the linear task by SIGKILL at each of their file operations; the same call then goes on with them.

As a script, it writes a line of JSON about each kill; what it imports, it imports once for all runs, which are forks.
"""

import builtins
import contextlib
import gc
import importlib.util
import io
import json
import os
import random
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from botvision.training import memory, metrics, run_state
from botvision.training.config import RunConfig
from botvision.training.trainer import start

spec = importlib.util.spec_from_file_location("linear_task", Path(__file__).with_name("linear_task.py"))
linear_task = importlib.util.module_from_spec(spec)
spec.loader.exec_module(linear_task)

RUN = RunConfig(steps=3, batch_size=8, precision="float32", device="cpu", eval_every=3, save_every=1, log_every=2)
KILLS = 10
"""Of one run, in a row."""


class Killer:
    """Counts the operations on files of a folder in this process, and kills it before one of them.

    Writing is an operation in two parts: before it, and in the middle of it.
    """

    def __init__(self, folder: Path, victim: int) -> None:
        self.folder, self.victim, self.count, self.fsync = str(folder), victim, 0, os.fsync
        for name in ("open", "replace", "rename", "unlink", "mkdir", "rmdir", "fsync", "truncate", "write"):
            setattr(os, name, self.counting(getattr(os, name)))
        self.open = builtins.open
        builtins.open = io.open = self.counting(self.open, writes=True)
        self.save = torch.save
        torch.save = self.torn_save

    def strike(self) -> None:
        """Count an operation, and die if it is the one."""
        self.count += 1
        if self.count == self.victim:
            os.kill(os.getpid(), signal.SIGKILL)

    def counting(self, function, *, writes: bool = False):
        """The function, with its calls for files of the folder counted: by name, or by an open file."""

        def counted(target, *arguments, **named):
            mode = str(arguments[0]) if arguments else named.get("mode", "r")
            if isinstance(target, int) or (
                str(target).startswith(self.folder) and (not writes or set(mode) & set("wax+"))
            ):
                self.strike()
            # A kill loses nothing that is in the system's memory, so the disk need not be waited for.
            return None if function is self.fsync else function(target, *arguments, **named)

        return counted

    def torn_save(self, content, path) -> None:
        """torch.save, which may end in the middle of the file."""
        self.strike()
        self.save(content, path)
        if self.count + 1 == self.victim:
            with self.open(path, "r+b") as file:
                file.truncate(Path(path).stat().st_size // 2)
        self.strike()


def in_a_fork(function) -> int:
    """Call a function in a fork of this process; gives its exit status, negative of a signal."""
    child = os.fork()
    if not child:
        try:
            function()
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def train(folder: Path, victim: int = 0) -> None:
    """Train, or go on, with a Killer; write how many operations and batches there were."""
    killer, task = Killer(folder, victim), linear_task.LinearTask(RUN.replace(out=folder), dropout=0.3)
    start(task, "linear", Console(quiet=True))
    about = {"operations": killer.count, "batches": len(task.seen)}
    Path(f"{folder}.json").write_text(json.dumps(about))


def end_of(folder: Path) -> dict[str, Any]:
    """What a run has reached, for a comparison to the bit."""
    checkpoints = {}
    for name in ("last", "best"):
        content = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
        checkpoints[name] = {part: content[part] for part in ("step", "best", "evaluated", "line", "skipped")}
        momenta = [one["momentum_buffer"] for one in content["optimizer"]["state"].values()]
        tensors = [*content["state_dict"].values(), *momenta]
        checkpoints[name]["tensors"] = [tensor.tolist() for tensor in tensors]
    tables = {
        table: [
            [cell for place, cell in enumerate(line.split(",")) if place not in timed]
            for line in (folder / f"{table}.csv").read_text().splitlines()
        ]
        for table, timed in (("metrics", (1, 4, 5, 6)), ("evaluations", (1,)))
    }
    files = sorted(str(file.relative_to(folder)) for file in folder.rglob("*"))
    return {"checkpoints": checkpoints, "tables": tables, "files": files}


def main(folder: Path) -> None:
    """Kill at each operation, start again, compare."""
    torch.set_num_threads(1)
    start(linear_task.LinearTask(RUN.replace(out=folder / "first")), "linear", Console(quiet=True))  # imports the rest
    gc.freeze()  # so that forks share what is in memory
    gc.disable()
    memory.free_memory = lambda: None  # as in the fixture of the same purpose
    run_state.draw_curves = lambda folder: None  # takes longer than all the rest
    metrics.SummaryWriter = lambda *_, **__: contextlib.nullcontext()
    metrics.Metrics.write = write_row
    metrics.Metrics.close = lambda self: None
    whole = folder / "whole"
    assert in_a_fork(lambda: train(whole)) == 0
    expected, operations = end_of(whole), json.loads(Path(f"{whole}.json").read_text())["operations"]
    draw = random.Random(0)
    for victims in [*([place] for place in range(1, operations + 1)), [draw.randrange(1, 60) for _ in range(KILLS)]]:
        run = folder / f"run{victims}"
        statuses = [in_a_fork(lambda run=run, victim=victim: train(run, victim)) for victim in [*victims, 0]]
        batches = json.loads(Path(f"{run}.json").read_text())["batches"]
        about = {"victims": victims, "statuses": statuses, "batches": batches, "same": end_of(run) == expected}
        print(json.dumps(about), flush=True)
        shutil.rmtree(run)


def write_row(self, table, step, values) -> None:
    """Metrics.write without TensorBoard, whose files are not read back."""
    metrics.add_row(table, self.tables[table], {"step": step, "time": "", **values})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
