"""What is wrong with shards, or with their list, is named."""

import io
import json
import tarfile

import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st

from botvision.data import open_classes, write_shards
from botvision.data.classification import ImageClasses, open_images
from botvision.data.remote import Patience
from botvision.data.shards import ImageShards, Members, list_members
from botvision.errors import UserError


def members_of(path, labels: list[int]) -> Members:
    with path.open("rb") as file:
        return list_members(file, str(path), labels)


def message_of(root, split: str = "train") -> str:
    with pytest.raises(UserError) as caught:
        open_classes(root, split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def change_index(folder, change) -> None:
    file = folder / "train-shards.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_an_unfinished_writing_leaves_nothing_that_is_read(animals, tmp_path):
    def interrupt(done: int, total: int) -> None:
        assert total == 8
        if done == 5:
            raise KeyboardInterrupt

    images, out = open_images(animals, "train"), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        write_shards(images, out, "train", samples_per_shard=3, seed=0, on_image=interrupt)
    assert [path.name for path in out.iterdir()] == ["train-000000.tar"]
    assert message_of(out).startswith(f"{out / 'train-shards.json'}: cannot be read")
    write_shards(images, out, "train", samples_per_shard=3, seed=0)
    assert len(open_classes(out, "train")) == 8
    with pytest.raises(UserError, match="there are shards of this split already"):
        write_shards(images, out, "train", samples_per_shard=3, seed=0)
    (out / "train-shards.json").unlink()
    with pytest.raises(UserError, match=r"train-000002\.tar: .*\(1 such\)"):
        write_shards(images, out, "train", samples_per_shard=4, seed=0)


def test_a_pattern_that_names_other_shards_is_refused(shards):
    assert f"{shards}/train-000003.tar: train-shards.json" in message_of(f"{shards}/train-{{000000..000003}}.tar")
    assert "val-*.tar in 0 folders" in message_of(f"{shards}/train-000000.tar", "val")


def test_a_range_of_too_many_shards_is_refused(shards):
    assert "99999999999" in message_of(f"{shards}/train-{{0..99999999999}}.tar")


def test_a_shard_that_cannot_be_fetched_whole_is_named(shards, serve):
    url, _ = serve(shards)
    dataset = ImageClasses(ImageShards(url, "train", patience=Patience(pauses=())))
    (shards / "train-000001.tar").write_bytes((shards / "train-000001.tar").read_bytes()[:-1024])
    (shards / "train-000002.tar").unlink()
    assert dataset[0][0] is not None
    with pytest.raises(UserError, match=r"train-000001\.tar: ends early"):
        dataset[3]
    with pytest.raises(UserError, match=r"train-000002\.tar: .*404"):
        dataset[7]
    message = message_of(f"{url}/elsewhere", "val")
    assert message.startswith(f"{url}/elsewhere/val-shards.json: ")
    assert "404" in message
    assert "botvision shards" in message


@pytest.mark.parametrize("name", ["pipe:touch X.tar", "../train-000000.tar", "/tmp/a.tar", "http://127.0.0.1/a.tar"])
@pytest.mark.parametrize("remote", [False, True])
def test_a_shard_is_a_file_beside_its_list_and_no_command_or_other_place(
    animals, shards, serve, name, remote, monkeypatch
):
    monkeypatch.chdir(animals)
    root, asked = serve(shards) if remote else (shards, [])
    change_index(shards, lambda content: content["shards"][0].__setitem__("name", name))
    message = message_of(root)
    assert message.startswith(f"{root}/train-shards.json: ")
    assert repr(name) in message
    assert not any("tar" in path for path in asked)
    assert not (animals / "X.tar").exists()


@pytest.mark.parametrize(
    "data",
    [
        "pipe:touch X",
        "pipe:touch X.tar",
        "pipe:touch {X,Y}",
        "pipe:touch X; cat shards/train-000000.tar",
        "pipe:touch X #://shards/train-000000.tar",
        "shards/train-000000.tar::pipe:touch X; cat shards/train-000001.tar",
        "ftp://127.0.0.1/shards",
        "az://bucket/shards",
        "file:shards",
    ],
)
def test_a_name_of_data_runs_no_command(shards, data, monkeypatch):
    monkeypatch.chdir(shards.parent)
    before = sorted(shards.parent.rglob("*"))
    message_of(data)
    assert sorted(shards.parent.rglob("*")) == before


def test_a_shard_that_ends_early_is_named_with_its_sample(shards):
    path = shards / "train-000001.tar"
    whole = path.read_bytes()
    with tarfile.open(path) as archive:
        members = archive.getmembers()
    images = [member for member in members if member.name.endswith(".png")]
    for cut, last in (
        (members[0].offset_data, None),
        (images[0].offset_data + 5, None),
        (images[1].offset_data - 100, images[0]),
        (images[1].offset_data + images[1].size, images[1]),
        (images[2].offset_data + images[2].size - 1, images[1]),
    ):
        path.write_bytes(whole[:cut])
        done = 0 if last is None else images.index(last) + 1
        message = message_of(shards)
        assert message.startswith(f"{path}: ends early")
        assert f"({done} of 3)" in message
        assert last is None or last.name in message
    path.write_bytes(whole + bytes(512))
    assert all(part in message_of(shards) for part in (str(path), str(len(whole) + 512), str(len(whole))))
    path.unlink()
    assert message_of(shards).startswith(f"{path}: no such shard")


def test_a_shard_with_other_samples_than_the_list_says_is_named(shards):
    def swap(content):
        first, second = content["shards"][0], content["shards"][1]
        first["name"], second["name"] = second["name"], first["name"]
        first["labels"], second["labels"] = [0, 0, 0], [1, 1, 1]
        first["bytes"], second["bytes"] = second["bytes"], first["bytes"]

    change_index(shards, swap)
    dataset = open_classes(shards, "train")
    with pytest.raises(UserError, match=r"sample \S+ has label \d in \S+\.cls"):
        [dataset[number] for number in range(6)]


def tar_of(*members: tuple[str, bytes, dict]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, content, changes in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            for field, value in changes.items():
                setattr(member, field, value)
            archive.addfile(member, io.BytesIO(content) if member.type == tarfile.REGTYPE else None)
    return stream.getvalue()


def test_links_and_sparse_members_of_a_shard_are_no_samples(animals, tmp_path):
    shard = tmp_path / "a.tar"
    image = (animals / "train" / "ant" / "a0.png").read_bytes()
    link = {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}
    sample = (("0.cls", b"0", {}), ("0.png", image, {}))
    shard.write_bytes(tar_of(*sample, ("1.cls", b"", link), ("1.png", b"", link)))
    assert members_of(shard, [0]).sizes.tolist() == [len(image)]
    for changes in (
        {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
        {"type": tarfile.GNUTYPE_SPARSE, "size": 2**50},
    ):
        shard.write_bytes(tar_of(("0.cls", b"", changes), *sample[1:]))
        with pytest.raises(UserError, match="ends early"):
            members_of(shard, [0])


@settings(max_examples=300, deadline=5000)
@given(data=st.data())
def test_damaged_shards_are_named_in_one_line_or_read(tmp_path_factory, data):
    whole = tar_of(("0-a.cls", b"0", {}), ("0-a.png", b"image" * 9, {}), ("1-b.cls", b"1", {}), ("1-b.png", b"b", {}))
    headers = [offset for offset in range(0, len(whole), 512) if whole[offset : offset + 1] in (b"0", b"1")]
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(headers)) + data.draw(st.integers(0, 300))
        content[place] = data.draw(st.integers(0, 255))
    for offset in headers:  # as if the damage came before the checksum
        if data.draw(st.booleans()):
            total = sum(content[offset : offset + 512]) - sum(content[offset + 148 : offset + 156]) + 8 * 32
            content[offset + 148 : offset + 156] = b"%06o\0 " % total
    shard = tmp_path_factory.mktemp("shard") / "a.tar"
    shard.write_bytes(content)
    try:
        members = members_of(shard, [0, 1])
    except UserError as error:
        assert str(error).startswith(str(shard)) and len(str(error).splitlines()) == 1
    else:
        assert members.sizes.sum() <= len(content)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda c: c["shards"][1]["labels"].__setitem__(2, 2),
            "'train-000001.tar': sample 2 has label 2",
        ),
        (lambda c: c["shards"][1]["labels"].__setitem__(0, -1), "sample 0 has label -1"),
        (lambda c: c["shards"][0]["labels"].__setitem__(1, "ant"), "shards.labels: "),
        (lambda c: c["shards"][0]["labels"].pop(), "has 3 samples and 2 labels"),
        (lambda c: c["shards"][0].pop("bytes"), "shards.bytes: "),
        (lambda c: c.pop("classes"), "classes: "),
        (lambda c: c["shards"].clear(), "holds no image"),
        (lambda c: c["classes"].__setitem__(0, "\ud800"), "classes: "),
        (lambda c: c["shards"][0].__setitem__("samples", "x" * 10**6), "shards.samples: "),
    ],
)
def test_a_list_of_shards_that_cannot_be_is_named(shards, change, said):
    change_index(shards, change)
    message = message_of(shards)
    assert message.startswith(str(shards))
    assert said in message
    assert len(message) < 500


def test_a_list_that_is_missing_or_cut_off_is_named(shards):
    file = shards / "train-shards.json"
    file.write_text(file.read_text()[:-5])
    assert message_of(shards).startswith(f"{file}: not valid JSON")
    file.write_text("[" * 100_000)
    assert message_of(shards).startswith(f"{file}: not valid JSON")
    file.unlink()
    assert message_of(shards).startswith(f"{file}: cannot be read (No such file or directory)")
    file.write_text("[]")
    assert message_of(shards).startswith(f"{file}: ")


def test_shards_of_another_program_are_told_how_to_become_ours(animals, tmp_path):
    (tmp_path / "foreign").mkdir()
    with webdataset.TarWriter(str(tmp_path / "foreign" / "train-000000.tar")) as archive:
        archive.write({"__key__": "0", "jpg": b"", "cls": b"0"})
    for root in (tmp_path / "foreign", tmp_path / "foreign" / "train-000000.tar"):
        message = message_of(root)
        assert message.startswith(f"{tmp_path / 'foreign' / 'train-shards.json'}: ")
        assert "botvision shards" in message
    (animals / "ILSVRC2012_img_train.tar").touch()  # left beside what was unpacked of it
    assert len(open_classes(animals, "train")) == 8
