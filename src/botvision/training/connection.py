"""Connect the processes that torchrun or SLURM started, or say in one line why they cannot be connected."""

import atexit
import gc
import json
import os
import platform
import time
from datetime import timedelta
from uuid import uuid4

import torch
import torch.distributed as dist
import torch.distributed.nn  # before there is a group: its functions keep the one of their import as a default argument
from lightning_fabric.plugins.environments import SLURMEnvironment

from botvision.device import pick_device, process_counts, started_by_launcher
from botvision.errors import UserError
from botvision.process_log import name_process

LONGEST_START = timedelta(minutes=5)
"""How long a process waits for the others at the start."""
POLL = 0.05
"""Seconds between two looks of a process for the answer of the first one."""


class NotConnectedError(UserError):
    """This process did not reach the others, so that each one says so itself."""


def connect(name: str) -> torch.device:
    """Connect this process to the others of its run; alone, or a second time, it only picks the device.

    From then on only the first process logs what all of them meet, and "cuda" is this process's own GPU.

    Args:
        name: of the device, as for :func:`~botvision.device.pick_device`.

    Raises:
        FieldError: there is no such device.
        UserError: not as many processes as GPUs, not as many on each machine, or GPUs on some machines alone.
        NotConnectedError: the port is in use, or the others do not come.
    """
    if dist.is_initialized() or not started_by_launcher():
        return pick_device(name)
    here, machines = process_counts(torch.device("cpu"))
    world = here * machines
    if world == 1:
        return pick_device(name)
    by_slurm = "LOCAL_WORLD_SIZE" not in os.environ
    if by_slurm:
        try:
            environment = SLURMEnvironment()
        except RuntimeError as error:  # variables that do not go together; the text says what to write instead
            raise UserError(str(error)) from error
        os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = environment.main_address, str(environment.main_port)
    rank, place = (int(os.environ[key]) for key in RANKS[by_slurm])
    store = meet(rank, world)
    device = same_device(store, rank, world, name, here)
    own = None
    if device.type == "cuda":
        own = torch.device("cuda", place)
        torch.cuda.set_device(own)
    backend = "nccl" if own else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world, device_id=own)
    atexit.register(leave)
    if rank:
        name_process(rank)
    return device


def leave() -> None:
    """End the connection while Python still runs, with the threads that serve it. Without one it does nothing.

    A thread of gloo that lets its last tensor go asks for Python's lock. Once Python ends, that aborts the process
    ("terminate called without an active exception"; pytorch/pytorch issue 190489). NCCL warns of groups that are left.
    """
    gc.collect()  # networks that were connected hold the group, and are parts of cycles
    if dist.is_initialized():
        dist.destroy_process_group()


RANKS = {False: ("RANK", "LOCAL_RANK"), True: ("SLURM_PROCID", "SLURM_LOCALID")}
"""Where torchrun, and SLURM, say which process this is, of all and on its machine."""


def meet(rank: int, world: int) -> dist.Store:
    """The store by which the processes find each other, on the first one's machine; all are there when it is given.

    Raises:
        NotConnectedError: see :func:`connect`.
    """
    place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    try:
        store, _, _ = next(dist.rendezvous("env://", rank, world, timeout=LONGEST_START))
        return gather_others(store, world) if rank == 0 else join_first(store, rank)
    except (dist.DistError, OSError) as error:
        reason = " ".join(str(error).split())
        if "EADDRINUSE" in reason:
            raise NotConnectedError(
                f"port {place} is in use by another program; choose a free one (MASTER_PORT, torchrun --master-port)"
            ) from error
        raise NotConnectedError(
            f"process {rank} of {world} on {platform.node()} did not meet the others at {place} "
            f"({reason[:120]}); see whether all were started, and whether that port is theirs and open"
        ) from error


def gather_others(store: dist.Store, world: int) -> dist.Store:
    """What the first process does: give this start a name, wait for the others, and answer each by its own name.

    torchrun keeps its store when it starts processes again. What the ended ones wrote is still there, above all the
    addresses at which they listened, so that each start has keys of its own.
    """
    start = uuid4().hex
    store.set("start", start)
    others = [f"{start}/here/{rank}" for rank in range(1, world)]
    deadline = time.monotonic() + LONGEST_START.total_seconds()
    while not store.check(others):  # not store.wait, in which no signal is answered
        if time.monotonic() > deadline:
            raise dist.DistStoreError(f"not all of {world} processes have come")
        time.sleep(POLL)
    store.set(f"{start}/all", " ".join(store.get(other).decode() for other in others))
    return dist.PrefixStore(start, store)


def join_first(store: dist.Store, rank: int) -> dist.Store:
    """What the other processes do: join the start that the first one names, until it answers this process by name.

    Raises:
        DistStoreError: it does not answer in time.
    """
    own, deadline = uuid4().hex, time.monotonic() + LONGEST_START.total_seconds()
    while time.monotonic() < deadline:
        start = store.get("start").decode()  # it waits for a name; an ended process may have given it
        store.set(f"{start}/here/{rank}", own)
        while store.get("start").decode() == start and time.monotonic() < deadline:
            if store.check([f"{start}/all"]) and own in store.get(f"{start}/all").decode().split():
                return dist.PrefixStore(start, store)
            time.sleep(POLL)
    raise dist.DistStoreError("the first process does not answer")


def same_device(store: dist.Store, rank: int, world: int, name: str, here: int) -> torch.device:
    """The device of a name, if all processes find it; otherwise all raise the same error.

    Raises:
        UserError: see :func:`connect`.
    """
    device, problem = None, None
    try:
        device = pick_device(name)
        if device.type == "cuda" and here > torch.cuda.device_count():
            problem = (
                f"sees {torch.cuda.device_count()} GPU(s) for the {here} processes of its machine; start one for each "
                "GPU, and let each process see all (SLURM: --gpus-per-node, not --gpus-per-task)"
            )
    except UserError as error:
        problem = str(error)
    store.set(f"device/{rank}", json.dumps([device and device.type, problem, platform.node()]))
    everyone = [json.loads(store.get(f"device/{other}")) for other in range(world)]
    for other, (kind, problem, machine) in enumerate(everyone):
        if problem is None and kind != everyone[0][0]:
            problem = f"runs on {kind}, the first one on {everyone[0][0]}; give --device cpu, or other machines"
        if problem is not None:
            raise shared(UserError(f"process {other} of {world} on {machine}: {problem}"))
    assert device is not None, "no process has a problem"
    return device


def shared(error: UserError) -> UserError:
    """The error, marked as one that all processes raise, so that the first one alone prints it."""
    error.is_shared = True
    return error
