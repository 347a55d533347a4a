"""Which files of a folder are images, and what is said of the others."""

import logging
import os
import socket

import pytest
from PIL import Image

from botvision.data import find_images
from botvision.data.image_files import ImageFolder, image_suffixes
from botvision.errors import UserError


def touch(*files) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def test_files_stay_in_order_and_folders_are_searched_in_order_of_names(tmp_path):
    names = ["z.png", "folder/b.JPG", "folder/deeper/a.webp", "folder/a.png"]
    z, b, deep, a = files = [tmp_path / name for name in names]
    touch(*files, tmp_path / "folder" / "notes.txt")
    (tmp_path / "folder" / "a folder.png").mkdir()
    assert find_images([z, tmp_path / "folder"]) == [z, a, b, deep]


def test_what_holds_no_image_is_named_with_what_it_holds(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.png does not exist"):
        find_images([tmp_path / "nowhere.png"])
    touch(*(tmp_path / f"{number}.heic" for number in range(10)), tmp_path / "more" / "a.txt")
    with pytest.raises(UserError, match=str(tmp_path)) as caught:
        find_images([tmp_path])
    assert all(part in str(caught.value) for part in ("0.heic", "and 3 more", ".jfif"))


def test_suffixes_are_those_of_pillow_for_formats_that_hold_nothing_but_pixels():
    assert image_suffixes() >= {
        ".jpg",
        ".jpeg",
        ".jfif",
        ".png",
        ".webp",
        ".tif",
        ".tiff",
        ".gif",
        ".bmp",
        ".mpo",
        ".ppm",
    }
    assert not image_suffixes() & {".eps", ".ps", ".pdf", ".wmf", ".emf", ".mpg", ".hdf", ".h5"}
    assert image_suffixes() <= Image.registered_extensions().keys()


def test_hidden_files_are_left_out_and_all_that_is_left_out_is_counted_in_one_line(tmp_path, caplog):
    touch(*(tmp_path / name for name in ("a.png", "b.jfif", "c.gif", "._a.png", ".DS_Store", "d.heic", "e.heic", "f")))
    touch(tmp_path / ".ipynb_checkpoints" / "a-checkpoint.png")
    with caplog.at_level(logging.WARNING, "botvision"):
        assert [path.name for path in find_images([tmp_path])] == ["a.png", "b.jfif", "c.gif"]
    [record] = caplog.records
    for part in (str(tmp_path), "left out 6 files", "3 hidden", "2 .heic", "1 without a suffix"):
        assert part in record.getMessage()
    touch(tmp_path / ".cache" / "g.png")
    assert find_images([tmp_path / ".cache", tmp_path / "._a.png"]) == [
        tmp_path / ".cache" / "g.png",
        tmp_path / "._a.png",
    ]


def test_pipes_and_sockets_are_neither_found_nor_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the name of a socket may have 100 characters
    os.mkfifo("a.png")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("b.png")
        assert ImageFolder(tmp_path).left_out == {"pipes, sockets or devices": 2}
        for name in ("a.png", "b.png", "/dev/zero"):
            with pytest.raises(UserError, match=f"{name} is no regular file"):
                find_images([tmp_path / name])


def test_links_out_of_a_folder_are_refused_unless_an_option_allows_them(tmp_path):
    touch(tmp_path / "cache" / "x.png", tmp_path / "photos" / "a.png")
    inside, outside = tmp_path / "photos" / "b.png", tmp_path / "photos" / "c.png"
    inside.symlink_to("a.png")
    assert find_images([tmp_path / "photos"]) == [tmp_path / "photos" / "a.png", inside]
    outside.symlink_to("../cache/x.png")
    with pytest.raises(UserError, match=f"follow_links: .*{outside}"):
        find_images([tmp_path / "photos"])
    assert find_images([tmp_path / "photos"], follow_links=True)[2] == outside
    assert find_images([outside]) == [outside]


def test_names_that_are_not_utf_8_are_found_and_printed_safely(tmp_path):
    touch(tmp_path / os.fsdecode(b"k\xe4fer.png"), tmp_path / "empty" / os.fsdecode(b"k\xe4fer.txt"))
    [found] = find_images([tmp_path])
    assert found.is_file()
    with pytest.raises(UserError) as caught:
        find_images([tmp_path / "empty"])
    assert r"k\udce4fer.txt" in str(caught.value)
    str(caught.value).encode()
