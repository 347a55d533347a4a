"""The processes of a run, started by Lightning Fabric, torchrun or SLURM."""

import logging
import warnings

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy

from botvision.device import pick_device, process_counts
from botvision.training.config import RunConfig


def launch(run: RunConfig) -> Fabric:
    """Start the processes of a run, one for each device, and connect them.

    Raises:
        FieldError: the device is not there, or the batch cannot be divided over the devices.
    """
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning_fabric")
    warnings.filterwarnings("ignore", message=".*find_unused_parameters=True was specified")
    device = pick_device(run.device)
    here, machines = process_counts(device)
    run.images_at_once(here * machines)  # an error comes before any process starts
    fabric = Fabric(
        accelerator=device.type,
        devices=here,
        num_nodes=machines,
        strategy=DDPStrategy(find_unused_parameters=True) if here * machines > 1 else "auto",
        precision="bf16-mixed" if run.precision == "bfloat16" else "32-true",
    )
    fabric.launch()
    if run.threads:
        torch.set_num_threads(run.threads)
    return fabric
