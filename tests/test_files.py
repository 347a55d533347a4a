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


@pytest.mark.parametrize("content", [b"step,loss\n\xff,1\n", b"step,loss\none,1\n", b"loss\n1\n", b"step\n\x00\n"])
def test_a_damaged_table_is_named(tmp_path, content):
    table = tmp_path / "metrics.csv"
    table.write_bytes(content)
    with pytest.raises(UserError, match=str(table)):
        continue_table(table, ("step", "loss"), 2)
    assert table.read_bytes() == content
