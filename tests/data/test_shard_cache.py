"""Shards from URLs on this machine: for one user, whole, shared by processes, limited, and resumed at any image."""

import json
import logging
import os
import threading
from collections import Counter
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from pkgutil import resolve_name

import numpy as np
import pytest

from botvision.data import open_classes, write_shards
from botvision.data.class_folders import ClassFolders
from botvision.data.loading import RunBatches, evaluation_loader, training_loader
from botvision.data.remote import Patience
from botvision.data.shard_cache import ABANDONED, LIMIT_SETTING, cache_folder, make_room
from botvision.data.shards import ImageShards
from botvision.errors import UserError

IMAGES = 23
SHARD_BYTES = 10240
"""Of each shard here: tar files are filled up to this."""


@pytest.fixture
def folder(tmp_path) -> Path:
    """23 images, each of one colour that is its number, in six shards of four images at most."""
    for number in range(IMAGES):
        file = tmp_path / "images" / f"class{number % 3}" / f"{number}.pgm"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"P5 2 2 255\n" + bytes([number] * 4))
    images = ClassFolders(tmp_path / "images", tmp_path)
    write_shards(images, tmp_path / "shards", "train", samples_per_shard=4, seed=0)
    assert {path.stat().st_size for path in (tmp_path / "shards").glob("*.tar")} == {SHARD_BYTES}
    return tmp_path / "shards"


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, "botvision")
    return lambda: [record.getMessage() for record in caplog.records]


def numbers(loader) -> list[list[int]]:
    """The number that each image shows, batch by batch."""
    return [batch["images"][:, 0, 0, 0].tolist() for batch in loader]


def shown(dataset) -> list[int]:
    return [int(dataset[number][0][0, 0, 0]) for number in range(len(dataset))]


def kept() -> list[Path]:
    """The shards that are on this machine."""
    return sorted(path for path in cache_folder().glob("*/*.tar") if not path.name.startswith("."))


def tars(asked: list[str]) -> Counter:
    return Counter(path for path in asked if path.endswith(".tar"))


def forget_checksums(folder: Path) -> None:
    """Change the list to one of an older version."""
    file = folder / "train-shards.json"
    content = json.loads(file.read_text())
    for shard in content["shards"]:
        del shard["sha256"]
    file.write_text(json.dumps(content))


def limit_to(shards: float, monkeypatch) -> None:
    monkeypatch.setenv(LIMIT_SETTING, str(shards * SHARD_BYTES / 1e9))


def test_each_shard_is_fetched_once_by_workers_that_want_it_together(folder, serve):
    url, asked = serve(folder)
    loader = evaluation_loader(open_classes(url, "train"), 1, workers=3)  # neighbours share a shard
    assert numbers(loader) == [[number] for number in shown(open_classes(folder, "train"))]
    assert tars(asked) == {f"/train-00000{number}.tar": 1 for number in range(6)}


def test_nobody_sees_half_a_shard(folder, serve):
    seen: list[list[Path]] = []

    class HalfAndHalf(SimpleHTTPRequestHandler):
        def copyfile(self, source, outputfile):
            content = source.read()
            outputfile.write(content[: len(content) // 2])
            outputfile.flush()
            seen.append(kept())
            outputfile.write(content[len(content) // 2 :])

    dataset = open_classes(serve(folder, HalfAndHalf)[0], "train")
    assert kept() == []
    dataset[0]
    assert seen[-1] == []
    assert [path.name for path in kept()] == ["train-000000.tar"]
    assert kept()[0].read_bytes() == (folder / "train-000000.tar").read_bytes()


@pytest.mark.parametrize("checksum", [True, False])
def test_a_shard_that_was_damaged_is_fetched_again(folder, serve, said, checksum):
    if not checksum:
        forget_checksums(folder)
    url, asked = serve(folder)
    expected = shown(open_classes(folder, "train"))
    assert shown(open_classes(url, "train")) == expected
    first, second, third = kept()[:3]
    first.write_bytes(first.read_bytes()[:-1])
    content = bytearray(second.read_bytes())
    content[700] ^= 1
    if checksum:
        second.write_bytes(content)
    os.utime(third)  # as a backup program may do
    assert shown(open_classes(url, "train")) == expected
    damaged = {first, second} if checksum else {first}
    assert {path for path in kept() if tars(asked)[f"/{path.name}"] == 2} == damaged
    assert len(said()) == len(damaged)
    assert all("damaged" in line for line in said())
    assert shown(open_classes(url, "train")) == expected
    assert sum(tars(asked).values()) == 6 + len(damaged)


def test_without_a_checksum_a_shard_that_cannot_be_is_fetched_again_by_the_next_run(folder, serve):
    forget_checksums(folder)
    url, _ = serve(folder)
    shown(open_classes(url, "train"))
    kept()[0].write_bytes(bytes(SHARD_BYTES))
    with pytest.raises(UserError) as caught:
        shown(open_classes(url, "train"))
    assert str(caught.value).startswith(f"{url}/train-000000.tar: ")
    assert shown(open_classes(url, "train")) == shown(open_classes(folder, "train"))


def test_no_other_user_can_enter_the_folder(folder, serve):
    old = os.umask(0)
    try:
        cache_folder().mkdir(parents=True)  # as an older version made it
        cache_folder().chmod(0o777)
        shown(open_classes(serve(folder)[0], "train"))
    finally:
        os.umask(old)
    places = [cache_folder().parent, cache_folder(), kept()[0].parent]
    assert [path.stat().st_mode & 0o777 for path in places] == [0o700] * 3


def test_a_link_in_the_place_of_a_folder_is_not_followed(folder, serve, tmp_path):
    url, asked = serve(folder)
    (tmp_path / "elsewhere").mkdir()
    cache_folder().parent.mkdir(parents=True)
    cache_folder().symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="XDG_CACHE_HOME") as caught:
        open_classes(url, "train")[0]
    assert str(caught.value).startswith(f"{cache_folder()}: ")
    assert not list((tmp_path / "elsewhere").iterdir())
    assert not tars(asked)


def test_a_link_in_the_place_of_a_shard_is_replaced(folder, serve, tmp_path):
    url, _ = serve(folder)
    shown(open_classes(url, "train"))
    shard, other = kept()[0], tmp_path / "other.tar"
    other.write_bytes(shard.read_bytes())
    shard.unlink()
    shard.symlink_to(other)
    before = other.stat()
    shown(open_classes(url, "train"))
    assert not shard.is_symlink()
    assert (other.stat().st_mtime_ns, other.read_bytes()) == (before.st_mtime_ns, shard.read_bytes())


def test_users_of_a_shared_folder_have_one_each_and_trust_no_other(folder, serve, monkeypatch):
    url, asked = serve(folder)
    mine = cache_folder()
    mine.parent.parent.mkdir()
    monkeypatch.setattr("os.getuid", lambda: 12345)
    theirs = cache_folder()
    assert theirs.parent != mine.parent
    assert theirs.parent.parent == mine.parent.parent
    theirs.mkdir(parents=True)  # by the user that this test runs as, who is another one now
    with pytest.raises(UserError, match="another user's"):
        open_classes(url, "train")[0]
    assert not tars(asked)


def test_the_shards_that_were_opened_first_make_room(folder, serve, said, monkeypatch):
    limit_to(2.5, monkeypatch)
    url, asked = serve(folder)
    dataset = open_classes(url, "train")
    [line] = said()
    assert line.startswith(f"{url}: ")
    assert LIMIT_SETTING in line
    for number, names in ((0, "0"), (4, "01"), (8, "12"), (0, "02"), (1, "02"), (4, "01"), (20, "15")):
        assert dataset[number][0] is not None
        assert [path.name for path in kept()] == [f"train-00000{name}.tar" for name in names]
    assert tars(asked)["/train-000000.tar"] == 2
    opened = open_classes(url, "train")
    opened[4]  # used by a new run, and so the last to go
    opened[8]
    assert [path.name for path in kept()] == ["train-000001.tar", "train-000002.tar"]
    assert shown(dataset) == shown(open_classes(folder, "train"))
    limit_to(1, monkeypatch)
    before = kept()[0].name
    assert len(kept()) == 2
    open_classes(url, "train")
    assert len(kept()) == 1
    assert kept()[0].name != before  # which was opened first


def test_a_shard_that_another_process_removes_is_fetched_again(folder, serve):
    url, asked = serve(folder)
    dataset = open_classes(url, "train")
    before = shown(dataset)
    for path in kept():
        path.unlink()
    assert shown(dataset) == before
    assert set(tars(asked).values()) == {2}


@pytest.mark.parametrize("operation", ["pathlib.Path.lstat", "pathlib.Path.open", "os.utime", "hashlib.file_digest"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_shards_that_go_while_they_are_looked_at_are_fetched_again(folder, serve, monkeypatch, operation, moment):
    url, asked = serve(folder)
    expected = shown(open_classes(url, "train"))
    for shard in kept():
        os.utime(shard)  # so that their checksums are looked at too
    dataset, original = open_classes(url, "train"), resolve_name(operation)
    removed = []

    def disturbed(*arguments, **named):
        if moment == "after":
            result = original(*arguments, **named)
        for shard in kept():
            shard.unlink()
            removed.append(shard)
        return result if moment == "after" else original(*arguments, **named)

    monkeypatch.setattr(operation, disturbed)
    assert shown(dataset) == expected
    assert len(removed) >= 6
    assert sum(tars(asked).values()) > 6


def test_what_killed_processes_left_goes_and_what_is_being_written_stays(folder, serve):
    url, _ = serve(folder)
    dataset = open_classes(url, "train")
    dataset[0]
    left, growing = (kept()[0].with_name(f".train-000001.{process}.tmp.tar") for process in (1, 2))
    for path in (left, growing):
        path.write_bytes(b"half")
    old = left.stat().st_mtime - ABANDONED - 1
    os.utime(left, (old, old))
    dataset[9]
    assert not left.exists()
    assert growing.exists()


@pytest.mark.parametrize("operation", ["os.utime", "os.fsync", "pathlib.Path.replace"])
def test_what_is_about_to_be_complete_does_not_count_as_left(folder, serve, monkeypatch, operation):
    url, asked = serve(folder)
    dataset, original = open_classes(url, "train"), resolve_name(operation)

    def disturbed(*arguments, **named):
        make_room(cache_folder(), 0)  # as another process may at any moment
        result = original(*arguments, **named)
        make_room(cache_folder(), 0)
        return result

    monkeypatch.setattr(operation, disturbed)
    assert shown(dataset) == shown(open_classes(folder, "train"))
    assert set(tars(asked).values()) == {1}


@pytest.mark.parametrize("text", ["much", "0", "-1", "nan", "inf", "1e400", "0.000001"])
def test_a_limit_that_cannot_be_is_named(folder, serve, monkeypatch, text):
    monkeypatch.setenv(LIMIT_SETTING, text)
    with pytest.raises(UserError) as caught:
        open_classes(serve(folder)[0], "train")
    assert str(caught.value).startswith(f"{LIMIT_SETTING}: ")


def test_a_shard_is_asked_for_again_as_patiently_as_was_said(folder, serve, said):
    failures = [503, 500]

    class Fails(SimpleHTTPRequestHandler):
        def do_GET(self):
            if self.path.endswith(".tar") and failures:
                self.send_error(failures.pop())
            else:
                super().do_GET()

    url, asked = serve(folder, Fails)
    store = ImageShards(url, "train", patience=Patience(pauses=(0, 0)))
    assert store.encoded(0)[1] == ".pgm"
    assert tars(asked) == {"/train-000000.tar": 3}
    assert len(said()) == 1
    assert kept()[0].read_bytes() == (folder / "train-000000.tar").read_bytes()


def test_an_attempt_that_fails_leaves_nothing(folder, serve):
    (folder / "train-000000.tar").write_bytes(bytes(SHARD_BYTES + 1))
    (folder / "train-000001.tar").write_bytes(bytes(SHARD_BYTES))
    store = ImageShards(serve(folder)[0], "train", patience=Patience(pauses=()))
    for number, said in ((0, "larger than 10240 bytes"), (4, "checksum")):
        with pytest.raises(UserError, match=said):
            store.encoded(number)
    assert not [path for path in cache_folder().rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_threads_that_want_one_shard_wait_for_the_one_that_fetches_it(folder, serve):
    url, asked = serve(folder)
    stores = [ImageShards(url, "train") for _ in range(4)]
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda store=store: found.append(store.encoded(0)[0])) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1 and len(found) == 4
    assert tars(asked) == {"/train-000000.tar": 1}


@pytest.mark.parametrize("limit", [None, 2.5])
def test_a_run_goes_on_at_any_image_with_other_workers_and_processes(folder, serve, monkeypatch, limit):
    if limit:
        limit_to(limit, monkeypatch)
    url, _ = serve(folder)

    def run(place, world: int, workers: int, start: int) -> list[list[int]]:
        """The global batches of twelve images, from one on, as the processes read them one image each in turn."""
        dataset = open_classes(place, "train")
        shares = []
        for rank in range(world):
            batches = RunBatches(IMAGES, 12 // world, 6, seed=3, start=start, rank=rank, world=world)
            shares.append(numbers(training_loader(dataset, batches, workers)))
        return [np.stack(batch, axis=1).ravel().tolist() for batch in zip(*shares, strict=True)]

    whole = run(folder, 1, 0, 0)
    assert len(whole) == 6
    for world, workers, start in ((1, 0, 0), (2, 2, 1), (3, 1, 4), (4, 0, 5)):
        assert run(url, world, workers, start) == whole[start:]
