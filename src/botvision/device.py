"""Where a program runs: the device, and how many processes share a training run."""

import os

import torch

from botvision.configuration import FieldError


def first_process() -> bool:
    """Whether this process writes files and prints, of those that torchrun, SLURM or Fabric started."""
    for variable in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        if variable in os.environ:
            return os.environ[variable] == "0"
    return True


def process_counts(device: torch.device) -> tuple[int, int]:
    """Processes on each machine, and machines: as torchrun or SLURM started them, else one for each GPU here."""
    return started_processes() or (max(1, torch.cuda.device_count()) if device.type == "cuda" else 1, 1)


def started_processes() -> tuple[int, int] | None:
    """Processes on each machine, and machines, that torchrun or SLURM started; None where neither did."""
    environ = os.environ
    if "LOCAL_WORLD_SIZE" in environ:
        here = int(environ["LOCAL_WORLD_SIZE"])
        return here, int(environ["WORLD_SIZE"]) // here
    if "SLURM_NTASKS" in environ and "SLURM_PROCID" in environ:
        machines = int(environ.get("SLURM_NNODES", 1))
        return int(environ["SLURM_NTASKS"]) // machines, machines
    return None


def pick_device(name: str) -> torch.device:
    """The device of a name, "cpu", "cuda" or "auto"; "auto" is a GPU where there is one.

    Raises:
        FieldError: another name, or "cuda" without a GPU.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise FieldError(("device",), f"should be auto, cpu or cuda, got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise FieldError(("device",), "there is no GPU that PyTorch can use; choose cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
