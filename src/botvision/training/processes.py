"""The processes of a run, started by Lightning Fabric, torchrun or SLURM."""

import logging
import math
import warnings

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy, ModelParallelStrategy, Strategy

from botvision.device import first_process, process_counts, started_by_launcher
from botvision.process_log import name_process
from botvision.training.config import RunConfig
from botvision.training.connection import connect
from botvision.training.sharding import shard_losses
from botvision.training.sharing import check_alike
from botvision.version import __version__

logger = logging.getLogger("botvision")


def launch(run: RunConfig) -> Fabric:
    """Start the processes of a run, one for each device, and connect them.

    Raises:
        FieldError: the device is not there, or the batch cannot be divided over the devices.
        UserError: the processes cannot be connected, or have different versions of this package or of PyTorch.
    """
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning_fabric")
    warnings.filterwarnings("ignore", message=".*find_unused_parameters=True was specified")
    device = connect_processes(run)
    here, machines = process_counts(device)
    if not started_by_launcher():
        here = usable(run, here)
    world = here * machines
    run.images_at_once(world)  # an error comes before Fabric starts any process
    fabric = Fabric(
        accelerator=device.type,
        devices=here,
        num_nodes=machines,
        strategy=strategy(run, world) if world > 1 else "auto",
        precision="bf16-mixed" if run.precision == "bfloat16" else "32-true",
    )
    fabric.launch()
    if fabric.global_rank and not started_by_launcher():  # which names them when it connects them
        name_process(fabric.global_rank)
    check_versions()
    if run.threads:
        torch.set_num_threads(run.threads)
    return fabric


def usable(run: RunConfig, gpus: int) -> int:
    """How many of the GPUs here a run takes, said where it is not all: those that share a step's images equally."""
    count = run.usable_devices(gpus)
    if count < gpus and first_process():
        logger.info("on %d of %d GPUs: more cannot share the %d images of a step equally", count, gpus, run.batch_size)
    return count


def check_versions() -> None:
    """Compare the versions of all processes.

    Raises:
        UserError: they differ; each version is named with its machine.
    """
    own = f"botvision {__version__} with PyTorch {torch.__version__}"
    check_alike(lambda: own, "the processes of this run have different versions, install one on all machines")


def connect_processes(run: RunConfig) -> torch.device:
    """Connect the processes that torchrun or SLURM started, if there are as many as the settings of the run allow.

    Raises:
        FieldError, UserError: as :func:`launch`.
    """
    if started_by_launcher():
        run.images_at_once(math.prod(process_counts(torch.device("cpu"))))  # whatever the device is
    return connect(run.device)


def strategy(run: RunConfig, world: int) -> Strategy:
    """How the processes hold the weights and exchange gradients."""
    if run.strategy == "fsdp":
        return ModelParallelStrategy(shard_losses, data_parallel_size=world, tensor_parallel_size=1)
    # All processes make the same buffers: batch norms are synchronised.
    return DDPStrategy(find_unused_parameters=True, broadcast_buffers=False)
