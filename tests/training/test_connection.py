"""How the processes of a run find each other through a store, also one that keeps what ended processes wrote."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch.distributed as dist

from botvision.training import connection
from botvision.training.connection import NotConnectedError, gather_others, join_first, meet

WORLD = 3


@pytest.fixture
def server():
    return dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=30))


def client(server):
    return dist.TCPStore("127.0.0.1", server.port, is_master=False, wait_for_workers=False)


def start(server, first_is_last: bool):
    """The stores that the processes of one start get, by rank."""
    order = list(range(WORLD))
    with ThreadPoolExecutor(WORLD) as pool:
        found = {}
        for rank in reversed(order) if first_is_last else order:
            store = client(server)
            found[rank] = (
                pool.submit(gather_others, store, WORLD) if rank == 0 else pool.submit(join_first, store, rank)
            )
        return [found[rank].result(timeout=60) for rank in order]


def test_a_start_sees_nothing_of_the_one_before(server):
    """As when torchrun starts processes again: its store is the same."""
    for number, first_is_last in enumerate([False, True, True, False]):
        stores = start(server, first_is_last)
        assert not any(store.check([f"address/{rank}"]) for store in stores for rank in range(WORLD))
        for rank, store in enumerate(stores):
            store.set(f"address/{rank}", f"{number} {rank}")
        for store in stores:
            assert [store.get(f"address/{rank}").decode() for rank in range(WORLD)] == [
                f"{number} {rank}" for rank in range(WORLD)
            ]


def test_a_process_whose_first_one_has_ended_says_so(server, monkeypatch):
    start(server, False)
    monkeypatch.setattr(connection, "LONGEST_START", timedelta(seconds=0.2))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(server.port))
    with pytest.raises(NotConnectedError, match=f"process 1 of {WORLD}"):
        meet(1, WORLD)
