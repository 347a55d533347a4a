"""Class folders shared out over train and val, and the command that training names where they are not."""

import json
import shlex

import pytest
from PIL import Image

from botvision.data import open_classes

COUNTS = {"ant": 20, "bee": 5, "cow": 3}


@pytest.fixture
def photos(tmp_path):
    """A folder with a space in its name, and a folder in it for each class; one of them has folders inside."""
    root = tmp_path / "my photos"
    for label, (name, count) in enumerate(COUNTS.items()):
        for number in range(count):
            place = root / name / "inside" if name == "bee" and number > 2 else root / name
            place.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (40 * label, 5 * number, 0)).save(place / f"{number}.png")
    (root / "classnames.txt").write_text("ant an ant, an insect\nbee a bee\n")
    return root


def names(folder) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*.png")}


def test_every_class_is_in_both_splits_in_its_share(run, photos, tmp_path):
    status, out, err = run("data", "split", photos, "--out", tmp_path / "out", "--json")
    assert status == 0, err
    train, val = (open_classes(tmp_path / "out", split) for split in ("train", "val"))
    assert json.loads(out) == {"train": {"images": len(train)}, "val": {"images": len(val)}}
    assert train.classes == val.classes == list(COUNTS)
    assert train.class_names == ["an ant", "a bee", "cow"]
    for label, count in enumerate(COUNTS.values()):
        own = [int((split.labels == label).sum()) for split in (train, val)]
        assert sum(own) == count
        assert own[1] == max(1, round(0.2 * count))
    found = [names(tmp_path / "out" / split) for split in ("train", "val")]
    assert found[0] & found[1] == set()
    assert found[0] | found[1] == names(photos)
    one = next(iter(found[1]))
    assert (tmp_path / "out" / "val" / one).read_bytes() == (photos / one).read_bytes()


@pytest.mark.parametrize("seed", range(4))
def test_links_to_one_file_are_in_one_split(run, photos, tmp_path, seed):
    for file in list((photos / "ant").glob("*.png")):
        (photos / "ant" / f"link-{file.name}").hardlink_to(file)
    assert run("data", "split", photos, "--out", tmp_path / "out", "--seed", seed)[0] == 0
    found = [{name.replace("link-", "") for name in names(tmp_path / "out" / split)} for split in ("train", "val")]
    assert found[0] & found[1] == set()
    assert sum(name.startswith("ant") for name in found[1]) == 4


def test_the_seed_decides(run, photos, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert run("data", "split", photos, "--out", tmp_path / name, "--seed", seed)[0] == 0
    chosen = [names(tmp_path / name / "val") for name in "abc"]
    assert chosen[0] == chosen[1] != chosen[2]


def test_the_command_that_training_names_makes_the_splits(run, refusal, photos):
    """Of a folder of classes, and of one that has train alone."""
    line = refusal("train", "imagenet/botnet50", "--data", photos, "--smoke")
    assert line.endswith(refusal("data", "check", photos).partition("over both: ")[2])
    words = shlex.split(line.partition("over both: ")[2])
    assert words[0] == "botvision" and run(*words[1:])[0] == 0
    made = photos.parent / "my photos-split"
    assert run("data", "check", made, "--pictures", 0)[0] == 0
    (made / "val").rename(photos.parent / "elsewhere")
    words = shlex.split(refusal("train", "imagenet/botnet50", "--data", made, "--smoke").partition("over both: ")[2])
    assert run(*words[1:])[0] == 0
    assert names(made.parent / "my photos-split-split" / "val") < names(made / "train")


@pytest.mark.parametrize(
    "wrong", ["one image", "no class", "split", "annotated", "images", "share", "there", "missing"]
)
def test_what_cannot_be_split_is_refused_and_nothing_is_written(refusal, photos, shapes, tmp_path, wrong):
    out, more, named = tmp_path / "out", [], wrong
    if wrong == "one image":
        for number in (1, 2):
            (photos / "cow" / f"{number}.png").unlink()
        named = "cow"
    elif wrong == "no class":
        photos, named = photos / "cow", "a folder of images for each class"
    elif wrong == "split":
        (photos / "ant").rename(photos / "train")
        named = "train/"
    elif wrong == "annotated":
        photos, named = shapes, "COCO file"
    elif wrong == "images":
        more, named = ["--images", photos], "--images"
    elif wrong == "share":
        more, named = ["--val", 1], "--val"
    elif wrong == "there":
        out, named = photos, "--out"
    elif wrong == "missing":
        photos, named = photos / "nothing", "nothing"
    before = sorted(tmp_path.rglob("*"))
    assert named in refusal("data", "split", photos, "--out", out, *more)
    assert sorted(tmp_path.rglob("*")) == before
