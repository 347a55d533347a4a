"""The processes of a run, started by Lightning Fabric, torchrun or SLURM."""

import logging
import os
import platform
import warnings
from typing import Literal

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy

from botvision.device import pick_device, process_counts, started_processes
from botvision.errors import UserError
from botvision.training.config import RunConfig
from botvision.training.sharing import gather_or_raise
from botvision.version import __version__


def join(device: str) -> None:
    """Connect the processes that torchrun or SLURM started, each with a device of its own; one process stays alone.

    Raises:
        FieldError: the device is not there.
    """
    kind, counts = pick_device(device), started_processes()
    if counts and counts != (1, 1):
        connect(make_fabric(kind, *counts))


def make_fabric(
    device: torch.device, here: int, machines: int, precision: Literal["32-true", "bf16-mixed"] = "32-true"
) -> Fabric:
    """Fabric for so many processes on each of so many machines; it is not launched yet."""
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning_fabric")
    strategy = DDPStrategy(find_unused_parameters=True) if here * machines > 1 else "auto"
    return Fabric(accelerator=device.type, devices=here, num_nodes=machines, strategy=strategy, precision=precision)


def connect(fabric: Fabric) -> None:
    """Start the processes that are not there yet, and connect all of them.

    Raises:
        UserError: they do not find each other, or the port is taken.
    """
    try:
        fabric.launch()
    except dist.DistError as error:
        place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        reason = str(error).splitlines()[0]
        raise UserError(
            f"the processes cannot connect at {place} ({reason}); choose another port (torchrun --master-port, or "
            "MASTER_PORT), and an address that all machines reach (MASTER_ADDR)"
        ) from error


def launch(run: RunConfig) -> Fabric:
    """Start the processes of a run, one for each device, and connect them.

    Raises:
        FieldError: the device is not there, or the batch cannot be divided over the devices.
        UserError: the processes cannot connect.
        UserError: the processes have different versions of this package or of PyTorch.
    """
    warnings.filterwarnings("ignore", message=".*find_unused_parameters=True was specified")
    device = pick_device(run.device)
    here, machines = process_counts(device)
    run.images_at_once(here * machines)  # an error comes before any process starts
    fabric = make_fabric(device, here, machines, "bf16-mixed" if run.precision == "bfloat16" else "32-true")
    connect(fabric)
    check_versions()
    if run.threads:
        torch.set_num_threads(run.threads)
    return fabric


def check_versions() -> None:
    """Compare the versions of all processes.

    Raises:
        UserError: they differ; each version is named with its machine.
    """
    own = (f"botvision {__version__} with PyTorch {torch.__version__}", platform.node())
    machines = dict(gather_or_raise(lambda: own))
    if len(machines) > 1:
        named = ", ".join(f"{version} on {machine}" for version, machine in sorted(machines.items()))
        raise UserError(f"the processes of this run have different versions: {named}; install one on all machines")
