"""Which image comes at which place of a run, and with which randomness."""

import itertools
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from botvision.data.loading import RunBatches, SeededSamples, evaluation_loader, training_loader

runs = st.fixed_dictionaries(
    {
        "dataset_size": st.integers(1, 20),
        "batch_size": st.integers(1, 7),
        "batches": st.integers(0, 30),
        "seed": st.integers(0, 5),
    }
)


def flat(batches) -> list[tuple[int, int]]:
    return [entry for batch in batches for entry in batch]


@given(runs)
def test_every_image_comes_once_an_epoch(run):
    places, indices = zip(*flat(RunBatches(**run)), strict=True) if run["batches"] else ((), ())
    assert list(places) == list(range(run["batches"] * run["batch_size"]))
    size = run["dataset_size"]
    for epoch in range(0, len(indices), size):
        seen = indices[epoch : epoch + size]
        assert len(set(seen)) == len(seen)
        assert set(seen) <= set(range(size))


@given(runs, st.data())
def test_a_run_that_starts_later_is_the_rest_of_the_whole_one(run, data):
    start = data.draw(st.integers(0, run["batches"]))
    assert list(RunBatches(**run, start=start)) == list(RunBatches(**run))[start:]


@given(runs, st.integers(1, 4))
def test_the_processes_share_the_global_batches(run, world):
    shares = [list(RunBatches(**run, rank=rank, world=world)) for rank in range(world)]
    alone = list(RunBatches(**{**run, "batch_size": run["batch_size"] * world}))
    for together, own in zip(alone, zip(*shares, strict=True), strict=True):
        assert sorted(flat(own)) == together
        assert {len(share) for share in own} == {run["batch_size"]}


def test_order_differs_from_epoch_to_epoch_and_from_seed_to_seed():
    orders = []
    for seed in (0, 1):
        indices = [index for _, index in flat(RunBatches(50, 50, 3, seed=seed))]
        orders += [tuple(indices[epoch : epoch + 50]) for epoch in (0, 50, 100)]
    assert len(set(orders)) == 6
    assert tuple(range(50)) not in orders


class Noise(torch.utils.data.Dataset):
    """Samples that show what the global generator gave them."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.rand(3), {"index": index}


def test_a_place_has_its_own_randomness_and_leaves_the_global_generator_alone():
    samples = SeededSamples(Noise(), seed=0)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, _ = samples[5, 0]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(samples[5, 0][0], first)
    assert not torch.equal(samples[6, 0][0], first)
    assert not torch.equal(SeededSamples(Noise(), seed=1)[5, 0][0], first)


@pytest.fixture(scope="module")
def without_workers():
    return list(training_loader(Noise(), RunBatches(4, 3, 4, seed=0), workers=0))


@pytest.mark.parametrize("workers", [1, 2])
def test_augmentation_does_not_depend_on_the_number_of_workers(without_workers, workers):
    torch.manual_seed(workers)
    batches = list(training_loader(Noise(), RunBatches(4, 3, 4, seed=0), workers=workers))
    for own, other in itertools.zip_longest(batches, without_workers):
        assert torch.equal(own["images"], other["images"])
        assert own["targets"] == other["targets"]


def test_more_workers_than_processors_are_no_reason_to_warn():
    with warnings.catch_warnings(action="error"):
        training_loader(Noise(), RunBatches(4, 3, 4, seed=0), workers=1000)
        evaluation_loader(Noise(), batch_size=2, workers=1000)
