"""Shards hold what the data set held, and are read wherever they are."""

import hashlib
import json
from collections import Counter

import pytest
import torch
import webdataset

from botvision.data import check_same_classes, open_classes, write_shards
from botvision.data.classification import open_images
from botvision.data.shard_index import expand
from botvision.errors import UserError


def facts(dataset) -> Counter:
    """Label and pixels of every image."""
    samples = (dataset[number] for number in range(len(dataset)))
    return Counter((target["label"], hashlib.sha256(image.numpy().tobytes()).hexdigest()) for image, target in samples)


def test_shards_hold_the_same_images_with_the_same_labels(animals, shards):
    for split in ("train", "val"):
        original, stored = open_classes(animals, split), open_classes(shards, split)
        check_same_classes(original, stored)
        assert stored.class_names == original.class_names == ["emmet", "cat"]
        assert facts(stored) == facts(original)
        assert Counter(stored.labels.tolist()) == Counter(original.labels.tolist())
    assert sorted(path.name for path in shards.iterdir()) == [
        *(f"train-00000{number}.tar" for number in range(3)),
        "train-shards.json",
        *(f"val-00000{number}.tar" for number in range(2)),
        "val-shards.json",
    ]


def test_webdataset_reads_the_same(animals, shards):
    content = json.loads((shards / "train-shards.json").read_text())
    assert [shard["samples"] for shard in content["shards"]] == [3, 3, 2]
    samples = list(webdataset.WebDataset(str(shards / "train-{000000..000002}.tar"), shardshuffle=False))
    assert [int(sample["cls"]) for sample in samples] == [
        label for shard in content["shards"] for label in shard["labels"]
    ]
    stored = {path.read_bytes() for path in (animals / "train").rglob("*.png")}
    assert {sample["png"] for sample in samples} == stored
    assert all(
        path.stat().st_size == shard["bytes"] for shard in content["shards"] for path in [shards / shard["name"]]
    )


def test_a_sample_is_named_after_its_image(animals, shards):
    dataset = open_classes(shards, "train")
    path = dataset[0][1]["path"]
    assert path.startswith(f"{shards}/train-000000.tar/00000000-")
    assert list((animals / "train").rglob(path.partition("00000000-")[2]))


def test_the_same_seed_gives_the_same_bytes(animals, tmp_path):
    def written(name: str, seed: int) -> list[bytes]:
        write_shards(open_images(animals, "train"), tmp_path / name, "train", samples_per_shard=4, seed=seed)
        return [path.read_bytes() for path in sorted((tmp_path / name).iterdir())]

    first = written("a", 1)
    assert written("b", 1) == first
    assert written("c", 2) != first


def test_shards_are_written_from_shards(animals, shards, tmp_path):
    write_shards(open_images(shards, "train"), tmp_path / "again", "train", samples_per_shard=100, seed=3)
    assert facts(open_classes(tmp_path / "again", "train")) == facts(open_classes(animals, "train"))


def test_limit_and_classes_choose_as_in_folders(animals, shards):
    assert open_classes(shards, "train", classes=1).classes == ["ant"]
    limited = open_classes(shards, "train", limit=5)
    assert Counter(limited.labels.tolist()) == {0: 3, 1: 2}
    assert facts(limited) <= facts(open_classes(animals, "train"))


@pytest.mark.parametrize(
    "pattern", ["{}/train-{{000000..000002}}.tar", "{0}/train-00000{{0,1}}.tar::{0}/train-000002.tar"]
)
def test_patterns_name_shards(animals, shards, pattern):
    assert facts(open_classes(pattern.format(shards), "train")) == facts(open_classes(animals, "train"))


def test_a_pattern_of_some_shards_reads_those(shards):
    assert len(open_classes(f"{shards}/train-000001.tar", "train")) == 3
    assert len(open_classes(f"{shards}/{{train,val}}-{{000000..000001}}.tar", "train")) == 6
    assert len(open_classes(f"{shards}/{{train,val}}-{{000000..000001}}.tar", "val")) == 4


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("a-{008..011}.tar", ["a-008.tar", "a-009.tar", "a-010.tar", "a-011.tar"]),
        ("{a,b}/{0..1}", ["a/0", "a/1", "b/0", "b/1"]),
        ("{}/{a}/{1..}", ["{}/{a}/{1..}"]),
    ],
)
def test_braces_mean_what_they_mean_in_a_shell(pattern, meant):
    assert expand(pattern) == meant


def test_a_shard_that_disappears_is_named(shards):
    dataset = open_classes(shards, "train")
    dataset[0]
    for path in shards.glob("train-*.tar"):
        path.unlink()
    with pytest.raises(UserError, match=r"train-000000\.tar: cannot be read"):
        dataset[1]


def test_file_urls_are_folders(animals, shards):
    assert facts(open_classes(shards.as_uri(), "train")) == facts(open_classes(animals, "train"))
    assert len(open_classes(f"{shards.as_uri()}/train-00000{{0,2}}.tar", "train")) == 5


def test_shards_at_a_url_are_fetched_once(animals, shards, serve):
    url, asked = serve(shards)
    dataset = open_classes(url, "train")
    assert asked == ["/train-shards.json"]
    assert facts(dataset) == facts(open_classes(animals, "train"))
    assert facts(open_classes(f"{url}/train-{{000000..000002}}.tar", "train")) == facts(dataset)
    assert facts(open_classes(url, "train")) == facts(dataset)
    assert Counter(path for path in asked if path.endswith(".tar")) == {f"/train-00000{n}.tar": 1 for n in range(3)}


def test_a_bad_image_in_a_shard_is_skipped_as_elsewhere(animals, tmp_path):
    (animals / "train" / "ant" / "a1.png").write_bytes(b"no image")
    write_shards(open_images(animals, "train"), tmp_path / "out", "train", samples_per_shard=9, seed=0)
    dataset = open_classes(tmp_path / "out", "train")
    bad = [about for image, about in map(dataset.__getitem__, range(len(dataset))) if image is None]
    assert len(bad) == 1
    assert bad[0]["path"].endswith("-a1.png")
    assert "no known image format" in bad[0]["reason"]


def test_an_epoch_reads_shards_one_after_the_other(tmp_path, write_images):
    write_images(tmp_path / "d" / "train" / "a", [f"{number}.png" for number in range(400)], side=1)
    write_shards(open_images(tmp_path / "d", "train"), tmp_path / "s", "train", samples_per_shard=4, seed=0)
    dataset = open_classes(tmp_path / "s", "train")
    order = dataset.epoch_order(torch.Generator().manual_seed(0))
    assert sorted(order.tolist()) == list(range(400))
    shard_of_place = dataset.images.groups[order]
    for start in range(0, 400, 40):
        assert len(set(shard_of_place[start : start + 40].tolist())) <= 10 + 2 * 16  # of 100 shards
    assert dataset.epoch_order(torch.Generator().manual_seed(1)).tolist() != order.tolist()
