"""Where a program runs: the device, and how many processes share a training run."""

import os
from typing import TYPE_CHECKING

from botvision.configuration import FieldError
from botvision.errors import UserError

if TYPE_CHECKING:
    import torch


def first_process() -> bool:
    """Whether this process writes files and prints, of those that torchrun, SLURM or Fabric started."""
    for variable in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        if variable in os.environ:
            return os.environ[variable] == "0"
    return True


def started_by_launcher() -> bool:
    """Whether torchrun or SLURM started this process, as one of several perhaps."""
    return "LOCAL_WORLD_SIZE" in os.environ or {"SLURM_NTASKS", "SLURM_PROCID"} <= os.environ.keys()


def process_counts(device: "torch.device") -> tuple[int, int]:
    """Processes on each machine, and machines: as torchrun or SLURM started them, else one for each GPU here.

    Raises:
        UserError: not as many processes on each machine.
    """
    import torch  # here: messages and settings need this module, and not PyTorch

    environ = os.environ
    if not started_by_launcher():
        return max(1, torch.cuda.device_count()) if device.type == "cuda" else 1, 1
    if "LOCAL_WORLD_SIZE" in environ:
        here, world = int(environ["LOCAL_WORLD_SIZE"]), int(environ["WORLD_SIZE"])
        machines = max(1, world // here)
    else:
        machines, world = int(environ.get("SLURM_NNODES", 1)), int(environ["SLURM_NTASKS"])
        here = world // machines
    if here * machines != world:
        raise UserError(
            f"{world} processes cannot be divided over machines of {here}; start as many on each machine "
            "(torchrun --nproc-per-node, SLURM's --ntasks-per-node)"
        )
    return here, machines


def pick_device(name: str) -> "torch.device":
    """The device of a name, "cpu", "cuda" or "auto"; "auto" is a GPU where there is one.

    Raises:
        FieldError: another name, or "cuda" without a GPU.
    """
    import torch

    if name not in ("auto", "cpu", "cuda"):
        raise FieldError(("device",), f"should be auto, cpu or cuda, got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise FieldError(("device",), "there is no GPU that PyTorch can use; choose cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
