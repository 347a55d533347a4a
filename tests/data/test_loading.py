"""Every image comes once an epoch, whatever the layout, the workers and the processes; bad ones are told."""

import os
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Dataset
from torchvision import tv_tensors

from botvision.data import open_classes, write_shards
from botvision.data.classification import open_images
from botvision.data.loading import RunBatches, collate, evaluation_loader, training_loader
from botvision.errors import UserError
from botvision.tasks.classification.transforms import eval_crop, train_augmentation

IMAGES = 23


@pytest.fixture(scope="module")
def layouts(tmp_path_factory) -> dict[str, Path]:
    """The same 23 images in three classes, as folders and as shards of at most four."""
    root = tmp_path_factory.mktemp("loading")
    for number in range(IMAGES):
        file = root / "folders" / "train" / f"class{number % 3}" / f"{number}.pgm"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"P5 2 2 255\n" + bytes([number] * 4))
    write_shards(open_images(root / "folders", "train"), root / "shards", "train", samples_per_shard=4, seed=0)
    return {"folders": root / "folders", "shards": root / "shards"}


def numbers(loader) -> list[list[int]]:
    """The number that each image shows, batch by batch."""
    return [batch["images"][:, 0, 0, 0].tolist() for batch in loader]


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["folders", "shards"]),
    st.integers(1, 7),
    st.integers(1, 4),
    st.integers(0, 12),
    st.integers(0, 5),
    st.data(),
)
def test_every_image_comes_once_an_epoch_from_any_start(layouts, layout, size, world, total, seed, data):
    dataset = open_classes(layouts[layout], "train")
    start = data.draw(st.integers(0, total))

    def batches(rank: int, start: int) -> list[list[int]]:
        run = RunBatches(len(dataset), size, total, seed=seed, start=start, rank=rank, world=world)
        return numbers(training_loader(dataset, run, workers=0))

    shares = [batches(rank, 0) for rank in range(world)]
    assert all(len(share) == total and {len(batch) for batch in share} <= {size} for share in shares)
    # A global batch is one image of every process after the other.
    seen = [share[batch][i] for batch in range(total) for i in range(size) for share in shares]
    for epoch in range(0, len(seen), IMAGES):
        assert len(set(seen[epoch : epoch + IMAGES])) == len(seen[epoch : epoch + IMAGES])
    for rank in range(world):
        assert batches(rank, start) == shares[rank][start:]


@pytest.mark.parametrize("layout", ["folders", "shards"])
def test_the_number_of_workers_changes_nothing(layouts, layout):
    dataset = open_classes(layouts[layout], "train", train_augmentation(4, randaugment=(2, 10)))
    runs = []
    for workers in (0, 1, 3):
        torch.manual_seed(workers)
        batches = list(training_loader(dataset, RunBatches(IMAGES, 5, 11, seed=3, start=2), workers))
        runs.append(([batch["images"].tolist() for batch in batches], [batch["targets"] for batch in batches]))
    assert runs[0] == runs[1] == runs[2]
    assert len(runs[0][0]) == 9


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("layout", ["folders", "shards"])
def test_evaluation_sees_every_image_once(layouts, layout, workers):
    dataset = open_classes(layouts[layout], "train")
    batches = list(evaluation_loader(dataset, 5, workers))
    shown = [number for batch in batches for number in batch["images"][:, 0, 0, 0].tolist()]
    labels = [target["label"] for batch in batches for target in batch["targets"]]
    assert Counter(shown) == Counter(range(IMAGES))
    assert labels == [number % 3 for number in shown]
    assert all(batch["skipped"] == [] for batch in batches)


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_images_leave_their_batch_and_are_listed(layouts, tmp_path, workers):
    folder = tmp_path / "train" / "a"
    folder.mkdir(parents=True)
    for number in range(6):
        (folder / f"{number}.pgm").write_bytes(b"P5 2 2 255\n" + bytes([number] * (4 if number in (0, 1, 4) else 3)))
    first, second, third = evaluation_loader(open_classes(tmp_path, "train"), 2, workers)
    assert first["images"][:, 0, 0, 0].tolist() == [0, 1]
    assert (second["images"].shape[0], second["targets"]) == (0, [])
    assert second["images"].dtype == torch.uint8
    assert [Path(path).name for path, _ in second["skipped"]] == ["2.pgm", "3.pgm"]
    assert third["images"][:, 0, 0, 0].tolist() == [4]
    assert third["targets"] == [{"label": 0, "path": str(folder / "4.pgm")}]
    [(path, reason)] = third["skipped"]
    assert path == str(folder / "5.pgm")
    assert reason.startswith("cannot be read as an image")


def test_more_workers_than_processors_are_no_matter_for_a_warning(layouts, recwarn, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0})
    dataset = open_classes(layouts["folders"], "train")
    for loader in (training_loader(dataset, RunBatches(IMAGES, 4, 1, seed=0), 2), evaluation_loader(dataset, 4, 2)):
        assert next(iter(loader))["targets"]
    assert not [str(warning.message) for warning in recwarn]


def test_a_batch_says_how_many_images_it_holds():
    images = [torch.full((3, 2, 2), number, dtype=torch.uint8) for number in range(2)]
    unreadable = (None, {"path": "a.jpg", "reason": "is empty"})
    batch = collate([(images[0], {"image_id": 0}), unreadable, (tv_tensors.Image(images[1]), {"image_id": 1})])
    assert type(batch["images"]) is torch.Tensor
    assert torch.equal(batch["images"], torch.stack(images))
    assert batch["targets"] == [{"image_id": 0}, {"image_id": 1}]
    assert (batch["size"], batch["skipped"]) == (2, [("a.jpg", "is empty")])
    assert collate([unreadable])["size"] == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_may_come_in_several_views_of_different_sizes(layouts, workers):
    crops = [eval_crop(4), eval_crop(6)]
    dataset = open_classes(layouts["folders"], "train", lambda image: tuple(crop(image) for crop in crops))
    for batch in training_loader(dataset, RunBatches(IMAGES, 5, 2, seed=0), workers):
        large, small = batch["images"][1], batch["images"][0]
        assert (batch["size"], small.shape, large.shape) == (5, (5, 3, 4, 4), (5, 3, 6, 6))
        assert torch.equal(small[:, :, 0, 0], large[:, :, 0, 0])  # each image has one colour


class ProcessGroups(Dataset):
    """Images whose pixels are the process group that reads them."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int):
        return torch.full((1,), os.getpgrp()), {}


def test_a_signal_to_the_group_of_the_run_does_not_reach_its_readers():
    dataset = ProcessGroups()
    for loader in (training_loader(dataset, RunBatches(2, 2, 1, seed=0), 1), evaluation_loader(dataset, 2, 1)):
        [batch] = loader
        assert os.getpgrp() not in batch["images"]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_shard_ends_the_run_in_one_line(layouts, tmp_path, workers):
    write_shards(open_images(layouts["folders"], "train"), tmp_path, "train", samples_per_shard=4, seed=0)
    dataset = open_classes(tmp_path, "train")
    shard = tmp_path / "train-000003.tar"
    shard.write_bytes(shard.read_bytes()[:2000])
    with pytest.raises(UserError) as caught:
        list(training_loader(dataset, RunBatches(IMAGES, 4, 6, seed=0), workers))
    assert str(caught.value).startswith(f"{shard}: ends early, after sample ")
