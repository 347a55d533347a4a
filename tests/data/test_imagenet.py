"""ImageNet's validation images side by side, and the files that say what is in them."""

import logging

import numpy as np
import pytest
from scipy.io import savemat

from botvision.data import open_classes
from botvision.errors import UserError

WNIDS = ["n01000000", "n02000000", "n03000000"]


@pytest.fixture
def imagenet(tmp_path, write_images):
    """Four validation images side by side, the classes in train/."""
    for wnid in WNIDS:
        write_images(tmp_path / "train" / wnid, [f"{wnid}_1.JPEG"])
    write_images(tmp_path / "val", [f"ILSVRC2012_val_0000000{number}.JPEG" for number in (1, 2, 3, 4)])
    return tmp_path


@pytest.fixture
def devkit(imagenet):
    folder = imagenet / "ILSVRC2012_devkit_t12" / "data"
    folder.mkdir(parents=True)
    # Five synsets with the fields of the real file, two of them groups of others.
    rows = [
        (3, "n03000000", "kit fox, Vulpes macrotis", 0),
        (1, "n01000000", "tench, Tinca tinca", 0),
        (2, "n02000000", "goldfish", 0),
        (4, "n00000004", "fish", 2),
        (5, "n00000005", "animal", 2),
    ]
    names = ("ILSVRC2012_ID", "WNID", "words", "num_children")
    synsets = np.array([rows], dtype=[(name, object) for name in names]).T
    savemat(folder / "meta.mat", {"synsets": synsets}, do_compression=True)
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text("3\n1\n2\n3\n")
    return folder


def message_of(root) -> str:
    with pytest.raises(UserError) as caught:
        open_classes(root, "val")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_development_kit_gives_labels_and_names(devkit, imagenet):
    train, val = open_classes(imagenet, "train"), open_classes(imagenet, "val")
    assert val.classes == train.classes == WNIDS
    assert val.class_names == ["tench", "goldfish", "kit fox"]
    assert val.labels.tolist() == [2, 0, 1, 2]  # the kit's numbers are not the sorted order in general
    assert val[3][1]["path"].endswith("ILSVRC2012_val_00000004.JPEG")


def test_labels_belong_to_the_number_in_the_name(devkit, imagenet, caplog):
    (imagenet / "val" / "ILSVRC2012_val_00000001.JPEG").unlink()
    with caplog.at_level(logging.WARNING, "botvision"):
        assert open_classes(imagenet, "val").labels.tolist() == [0, 1, 2]
    assert "holds 3 of the 4 images" in caplog.text


@pytest.mark.parametrize(
    "lines",
    [
        "ILSVRC2012_val_00000001.JPEG 2\nILSVRC2012_val_00000002.JPEG 0\n",
        "ILSVRC2012_val_00000001 n03000000\nILSVRC2012_val_00000002\tn01000000 0 0 20 30\n",
    ],
)
def test_a_list_gives_classes_by_name_or_by_place(imagenet, lines):
    (imagenet / "val.txt").write_text(lines + "ILSVRC2012_val_00000003.JPEG 1\nILSVRC2012_val_00000004.JPEG 2\n")
    if "n03" in lines:
        (imagenet / "val.txt").write_text(
            lines + "ILSVRC2012_val_00000003.JPEG n02000000\nILSVRC2012_val_00000004.JPEG n03000000\n"
        )
    dataset = open_classes(imagenet, "val")
    assert dataset.classes == WNIDS
    assert dataset.labels.tolist() == [2, 0, 1, 2]


def test_kaggles_list_is_read(imagenet):
    rows = [
        f"ILSVRC2012_val_0000000{n},{w} 1 2 3 4 {w} 5 6 7 8 "
        for n, w in zip((4, 3, 2, 1), [*WNIDS, WNIDS[0]], strict=True)
    ]
    (imagenet / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *rows, ""]))
    assert open_classes(imagenet, "val").labels.tolist() == [0, 2, 1, 0]


def test_without_labels_the_mend_is_said(imagenet):
    message = message_of(imagenet)
    assert message.startswith(f"{imagenet / 'val'}: holds images and no class folders")
    assert str(imagenet / "ILSVRC2012_devkit_t12") in message
    assert str(imagenet / "val.txt") in message


def test_a_development_kit_that_does_not_fit_is_named(devkit, imagenet):
    truth = devkit / "ILSVRC2012_validation_ground_truth.txt"
    truth.write_text("3\n1\n4\n3\n")  # 4 is a group of classes, no class
    assert message_of(imagenet).startswith(f"{truth}: line 3 is '4'")
    truth.write_text("3\n1\n2\n")
    assert "ILSVRC2012_val_00000004.JPEG: its name ends in no number from 1 to 3" in message_of(imagenet)
    truth.unlink()
    assert message_of(imagenet).startswith(f"{truth}: cannot be read")
    content = (devkit / "meta.mat").read_bytes()
    for damaged in (content[:-20], content[:100], b"", b"text"):
        (devkit / "meta.mat").write_bytes(damaged)
        assert message_of(imagenet).startswith(f"{devkit / 'meta.mat'}: ")
    (devkit / "meta.mat").unlink()
    assert message_of(imagenet).startswith(f"{devkit / 'meta.mat'}: cannot be read")


def test_a_list_that_does_not_fit_is_named(imagenet):
    file = imagenet / "val.txt"
    names = [f"ILSVRC2012_val_0000000{number}.JPEG" for number in (1, 2, 3, 4)]
    file.write_text("".join(f"{name} {label}\n" for name, label in zip(names, (0, 1, 2, 3), strict=True)))
    message = message_of(imagenet)
    assert message.startswith(f"{file}: line 4 has class '3'")
    assert str(imagenet / "train") in message
    file.write_text(f"{names[0]} 0\n")
    assert f"{names[1]}: {file} has no class for it (3 such images)" in message_of(imagenet)
    file.write_bytes(b"\xff\xfe")
    assert "not text in UTF-8 at byte 0" in message_of(imagenet)
