"""Class folders: what is found in them, and what is refused."""

import logging
import os

import numpy as np
import pytest
import torch
from torchvision.datasets import ImageFolder

from botvision.data import ImageClasses, check_same_classes, open_classes
from botvision.errors import UserError

NOT_UTF_8 = os.fsdecode("kätzchen".encode("latin-1"))


def message_of(root, split: str = "train", **options) -> str:
    with pytest.raises(UserError) as caught:
        open_classes(root, split, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_images_and_labels_are_those_that_torchvision_finds(animals):
    for split in ("train", "val"):
        dataset, reference = open_classes(animals, split), ImageFolder(animals / split)
        assert dataset.classes == dataset.class_names == reference.classes == ["ant", "cat"]
        assert len(dataset) == len(reference)
        for number, (picture, label) in enumerate(reference):
            image, target = dataset[number]
            assert np.array_equal(image.permute(1, 2, 0), picture)
            assert target["label"] == label
        assert [dataset[i][1]["path"] for i in range(len(dataset))] == [path for path, _ in reference.samples]


@pytest.mark.parametrize("name", ["val", "validation", "valid", "test"])
def test_the_folder_to_evaluate_on_may_have_any_of_its_names(animals, name):
    (animals / "val").rename(animals / name)
    assert open_classes(animals, "val").source == animals / name


def test_validation_comes_before_test(animals, write_images):
    write_images(animals / "test" / "other", ["0.png"])
    assert open_classes(animals, "val").source == animals / "val"


def test_another_split_is_the_folder_of_that_very_name(animals, write_images):
    write_images(animals / "test" / "ant", ["0.png"])
    dataset = open_classes(animals, "test")
    assert (dataset.source, len(dataset)) == (animals / "test", 1)


def test_images_beside_the_class_folders_are_counted_in_one_warning(animals, write_images, caplog):
    write_images(animals / "train", ["x.png", "y.png", ".hidden.png"])
    (animals / "train" / "notes.txt").write_text("no image")
    (animals / "train" / "ant" / "notes.txt").write_text("no image")
    os.mkfifo(animals / "train" / "ant" / "endless.png")
    with caplog.at_level(logging.WARNING, "botvision"):
        assert len(open_classes(animals, "train")) == 8
        open_classes(animals, "val")
    [record] = caplog.records
    assert str(animals / "train") in record.getMessage()
    assert "2 images in no class folder" in record.getMessage()
    assert "2 .txt" in record.getMessage()
    assert "1 hidden" in record.getMessage()
    assert "1 pipes, sockets or devices" in record.getMessage()


def test_other_files_hidden_ones_and_deeper_folders(animals, write_images):
    write_images(animals / "train" / "cat" / "images", ["deep.JPEG"])
    write_images(animals / "train" / ".checkpoints", ["a.png"])
    write_images(animals / "train" / "ant", ["._a0.png"])
    (animals / "train" / "cat" / "boxes.txt").write_text("no image")
    dataset = open_classes(animals, "train")
    assert dataset.classes == ["ant", "cat"]
    paths = [dataset[number][1]["path"] for number in range(len(dataset))]
    assert len(paths) == 9
    assert str(animals / "train" / "cat" / "images" / "deep.JPEG") in paths


@pytest.mark.parametrize("file", ["words.txt", "LOC_synset_mapping.txt", "classnames.txt"])
def test_names_of_classes_are_taken_from_the_files_that_people_have(animals, file):
    (animals / file).write_text("dog\thound\nant emmet, pismire\ncat\tdomestic cat, house cat\n\n")
    dataset = open_classes(animals, "train")
    assert dataset.classes == ["ant", "cat"]
    assert dataset.class_names == ["emmet", "domestic cat"]


@pytest.mark.parametrize("file", ["words.txt", "classnames.txt"])
def test_names_of_classes_that_are_not_in_utf_8_are_named_with_the_place(animals, file):
    (animals / file).write_bytes("ant Ameise\ncat Kätzchen\n".encode("latin-1"))
    message = message_of(animals)
    assert message.startswith(f"{animals / file}: ")
    assert "UTF-8 at byte 16" in message


def test_a_limit_takes_images_evenly_from_the_classes(animals):
    whole = [target["path"] for _, target in map(open_classes(animals, "train").__getitem__, range(8))]
    for limit, cats in ((1, 0), (2, 1), (3, 1), (6, 3), (7, 4), (8, 5), (100, 5)):
        dataset = open_classes(animals, "train", limit=limit)
        ants = min(limit, 8) - cats
        paths = [dataset[number][1]["path"] for number in range(len(dataset))]
        assert paths == whole[:ants] + whole[3 : 3 + cats]
        assert dataset.labels.tolist() == [0] * ants + [1] * cats


def test_a_number_of_classes_takes_the_first_ones(animals):
    dataset = open_classes(animals, "train", classes=1)
    assert (dataset.classes, dataset.class_names, len(dataset)) == (["ant"], ["ant"], 3)
    assert "has 2 classes, not 3" in message_of(animals, classes=3)


def test_a_transform_gets_the_image_and_can_be_changed(animals):
    dataset = open_classes(animals, "train", lambda image: torch.tensor(image.size))
    assert dataset[0][0].tolist() == [8, 8]
    dataset.transform = None
    assert dataset[0][0].shape == (3, 8, 8)


def test_an_unreadable_image_is_told_with_its_reason(animals):
    bad = animals / "train" / "ant" / "a1.png"
    bad.write_bytes(bad.read_bytes()[:60])
    gone = animals / "train" / "ant" / "a2.png"
    dataset = open_classes(animals, "train")
    gone.unlink()
    image, about = dataset[1]
    assert image is None
    assert about["path"] == str(bad)
    assert about["reason"].startswith("cannot be read as an image")
    assert str(bad) not in about["reason"]
    image, about = dataset[2]
    assert image is None
    assert about == {"path": str(gone), "reason": "cannot be read (No such file or directory)"}
    assert dataset[3][0] is not None


def test_folders_that_cannot_be_meant_are_refused(animals, tmp_path):
    assert "no such folder" in message_of(tmp_path / "nothing")
    assert "holds no train/ (it holds ant/, cat/)" in message_of(animals / "train")
    assert "holds no val/ or validation/ or valid/ or test/" in message_of(animals / "train", "val")
    assert "holds no test/ (it holds train/, val/)" in message_of(animals, "test")
    (animals / "empty" / "train").mkdir(parents=True)
    assert "neither class folders nor images" in message_of(animals / "empty")


def test_a_class_without_images_is_named(animals):
    (animals / "train" / "bee").mkdir()
    (animals / "train" / "bee" / "notes.txt").write_text("soon")
    assert message_of(animals).startswith(f"{animals / 'train' / 'bee'}: holds no image (it holds notes.txt)")
    (animals / "train" / "cow").mkdir()
    assert "2 such class folders" in message_of(animals)


def test_links_out_of_the_folder_are_refused_unless_an_option_allows_them(animals, tmp_path, write_images):
    write_images(tmp_path / "elsewhere", ["x.png"])
    for link, target in (
        (animals / "train" / "ant" / "x.png", tmp_path / "elsewhere" / "x.png"),
        (animals / "train" / "bee", tmp_path / "elsewhere"),
    ):
        link.symlink_to(target)
        message = message_of(animals)
        assert message.startswith("follow_links: ")
        assert str(link) in message
        assert message.endswith(f"put the {'folder' if target.is_dir() else 'file'} itself there")
        dataset = open_classes(animals, "train", follow_links=True)
        assert sum(dataset[number][0] is not None for number in range(len(dataset))) == 9
        link.unlink()
    link = animals / "train" / "ant" / "round"
    link.symlink_to(animals / "train" / "ant")
    for follow_links in (False, True):
        assert message_of(animals, follow_links=follow_links).startswith(f"{link}: is a link to a folder")


def test_links_to_nothing_are_counted(animals, caplog):
    (animals / "train" / "ant" / "x.png").symlink_to("y.png")
    (animals / "train" / "ant" / "y.png").symlink_to("x.png")
    (animals / "train" / "ant" / "z.png").symlink_to("gone.png")
    assert len(open_classes(animals, "train", follow_links=True)) == 8
    assert "3 links to nothing" in caplog.text


def test_names_that_are_not_utf_8_or_have_decomposed_letters(animals):
    (animals / "train" / "ant").rename(animals / "train" / "fourmi\u0301")
    (animals / "val" / "ant").rename(animals / "val" / "fourm\u00ed")
    (animals / "train" / "cat").rename(animals / "train" / NOT_UTF_8)
    (animals / "val" / "cat").rename(animals / "val" / NOT_UTF_8)
    train, val = open_classes(animals, "train"), open_classes(animals, "val")
    check_same_classes(train, val)
    assert train.classes == ["fourm\u00ed", r"k\udce4tzchen"]
    assert all(train[number][0] is not None for number in range(8))
    (animals / "val" / "fourmi\u0301").mkdir()
    (animals / "val" / "fourmi\u0301" / "0.png").symlink_to(animals / "val" / "fourm\u00ed" / "0.png")
    assert "two class folders" in message_of(animals, "val")


def test_links_inside_the_folder_and_of_the_whole_folder_are_followed(animals, tmp_path):
    (animals / "train" / "ant" / "again.png").symlink_to(animals / "train" / "ant" / "a0.png")
    (tmp_path / "linked").symlink_to(animals)
    dataset = open_classes(tmp_path / "linked", "train")
    assert len(dataset) == 9


def test_other_classes_in_the_other_split_are_printed(animals, write_images):
    train = open_classes(animals, "train")
    check_same_classes(train, open_classes(animals, "val"))
    for number in range(7):
        write_images(animals / "val" / f"new{number}", ["0.png"])
    (animals / "val" / "cat").rename(animals / "val" / "Cat")
    with pytest.raises(UserError) as caught:
        check_same_classes(train, open_classes(animals, "val"))
    assert str(caught.value) == (
        f"{animals / 'val'}: its classes are not those of {animals / 'train'}: "
        "it lacks 'cat' and adds 'Cat', 'new0', 'new1', 'new2', 'new3' and 3 more"
    )


def test_a_data_set_is_small_to_hand_to_workers(animals):
    dataset = open_classes(animals, "train")
    assert isinstance(dataset, ImageClasses)
    assert isinstance(dataset.images._files, np.ndarray)
    assert dataset.images._files.dtype.kind == "S"
