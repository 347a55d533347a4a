"""Which device is taken, and how many processes share a run."""

import pytest
import torch

from botvision.configuration import FieldError
from botvision.device import first_process, pick_device, process_counts

VARIABLES = ("RANK", "SLURM_PROCID", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "WORLD_SIZE", "SLURM_NTASKS", "SLURM_NNODES")


@pytest.fixture
def environ(monkeypatch):
    """Sets variables, and removes all others that count."""

    def set_to(**variables: int) -> None:
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))

    return set_to


@pytest.mark.parametrize(
    ("variables", "counts"),
    [
        ({}, (1, 1)),
        ({"LOCAL_WORLD_SIZE": 4, "WORLD_SIZE": 8}, (4, 2)),
        ({"SLURM_NTASKS": 16, "SLURM_PROCID": 3, "SLURM_NNODES": 2}, (8, 2)),
        ({"SLURM_NTASKS": 16}, (1, 1)),  # inside an allocation, but not started by srun
    ],
)
def test_processes_are_those_that_torchrun_or_slurm_started(environ, variables, counts):
    environ(**variables)
    assert process_counts(torch.device("cpu")) == counts


@pytest.mark.parametrize(
    ("variables", "first"),
    [
        ({}, True),
        ({"RANK": 0, "LOCAL_RANK": 0}, True),
        ({"RANK": 4, "LOCAL_RANK": 0}, False),  # the first of the second machine
        ({"SLURM_PROCID": 0}, True),
        ({"SLURM_PROCID": 1}, False),
        ({"LOCAL_RANK": 1}, False),
    ],
)
def test_one_process_is_the_first(environ, variables, first):
    environ(**variables)
    assert first_process() is first


def test_devices_that_are_not_there_name_the_field(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")
    for name in ("cuda", "tpu"):
        with pytest.raises(FieldError) as caught:
            pick_device(name)
        assert caught.value.path == ("device",)
