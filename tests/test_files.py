"""Files are written completely or not at all."""

import csv
import resource
from contextlib import contextmanager

import pytest

from botvision.errors import UserError
from botvision.files import whole_file, write_text
from botvision.training.metrics import add_row, continue_table


@contextmanager
def full_disk(left: int):
    """No file can grow over ``left`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (left, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_that_there_is_no_room_for_is_named(tmp_path):
    with full_disk(100), pytest.raises(UserError, match=str(tmp_path / "metrics.json")) as caught:
        write_text(tmp_path / "metrics.json", "x" * 1000)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    with full_disk(100), pytest.raises(UserError, match=str(tmp_path / "metrics.csv")):
        add_row(tmp_path / "metrics.csv", ("step",), {"step": "x" * 1000})


def test_an_error_leaves_what_was_there(tmp_path):
    path = tmp_path / "folder" / "file.txt"
    write_text(path, "größer\n")
    with pytest.raises(KeyboardInterrupt), whole_file(path) as temporary:
        assert temporary.suffix == ".txt"
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_bytes() == "größer\n".encode()
    assert [file.name for file in path.parent.iterdir()] == ["file.txt"]


def test_a_table_is_continued_after_a_step(tmp_path):
    table = tmp_path / "metrics.csv"
    continue_table(table, ("step", "loss"), 0)
    for step in range(1, 5):
        add_row(table, ("step", "loss"), {"step": step, "loss": 0.5})
    continue_table(table, ("step", "loss"), 2)
    with table.open(newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "2"]


@pytest.mark.parametrize(
    ("end", "kept"),
    [
        (b"2,0.5\r\n3,0.", "12"),  # torn
        (b"2,0.5\r\n3", "12"),
        (b"2,0.5\r\n" + bytes(4096), "12"),  # the last block was not on the disk yet
        (b"2,0.5" + bytes(20) + b"\r\n3,0.5\r\n", "13"),
        (b"\xff,1\r\n3,0.5\r\n", "13"),
        (b"2,0.5,7\r\n3,0.5\r\none,0.5\r\n", "13"),
    ],
)
def test_damaged_lines_of_a_table_are_left_out_with_a_warning(tmp_path, caplog, end, kept):
    table = tmp_path / "metrics.csv"
    table.write_bytes(b"step,loss\r\n1,0.5\r\n" + end)
    continue_table(table, ("step", "loss"), 3)
    with table.open(newline="") as file:
        assert [(row["step"], row["loss"]) for row in csv.DictReader(file)] == [(step, "0.5") for step in kept]
    assert str(table) in caplog.text


@pytest.mark.parametrize("content", [b"", bytes(100), b"st", b"step,loss"])
def test_a_table_without_a_whole_header_begins_again(tmp_path, content):
    table = tmp_path / "metrics.csv"
    table.write_bytes(content)
    continue_table(table, ("step", "loss"), 3)
    assert table.read_bytes() == b"step,loss\r\n"
