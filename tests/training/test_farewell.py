"""A process that an error ends says so to the others, which would otherwise take it for lost."""

import os
import socket
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow  # each process imports PyTorch
FAILING, OTHER = (
    """
def compute(numbers):
    numbers.sum()
    raise UserError("the disk is full")

try:
    compute(ConnectedNetwork())
except UserError as error:
    tell_failure(error, str(error))
""",
    """
try:
    dist.all_reduce(torch.ones(1))
except RuntimeError:
    print(failure_elsewhere())
""",
)
START = """
import sys
import torch
import torch.distributed as dist
from botvision.errors import UserError
from botvision.training.connection import connect
from botvision.training.farewell import failure_elsewhere, tell_failure

class ConnectedNetwork:
    def __init__(self):
        self.group = dist.group.WORLD

    def sum(self):
        dist.barrier()

connect("cpu")
"""


@pytest.mark.parametrize("failing", [0, 1])
def test_the_other_process_learns_what_failed(failing):
    """Also where the first one fails, on whose machine the store of the run is."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared |= {"TORCHELASTIC_RUN_ID": "test", "GROUP_RANK": "0"}
    children = []
    for rank in (0, 1):
        script = START + (FAILING if rank == failing else "dist.barrier()" + OTHER)
        environ = {**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        command = [sys.executable, "-c", script]
        children.append(subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True))
    said = [child.communicate(timeout=120)[0] for child in children]
    assert f"process {failing} of 2" in said[1 - failing]
    assert "the disk is full" in said[1 - failing]
