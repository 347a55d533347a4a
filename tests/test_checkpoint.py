"""Checkpoints are found, and read without running what is in them."""

import hashlib
import os
import pickle
from pathlib import Path

import pytest
import torch

from botvision.checkpoint import checkpoint_of, read_checkpoint, weights_of
from botvision.checksum import checksum_of
from botvision.errors import UserError
from botvision.models.weights import read_state_dict
from botvision.training.checkpoint import save

GOOD = {"botvision": {"task": "linear"}, "step": 3, "state_dict": {"weight": torch.ones(3)}}


class Malicious:
    """Makes a folder where it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path, save):
    path = tmp_path / "evil.ckpt"
    save({**GOOD, "evil": Malicious(tmp_path / "ran")}, path)
    with pytest.raises(UserError, match=r"evil\.ckpt") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["evil.ckpt"]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ([1, 2], "dictionary"),
        ({**GOOD, "botvision": 3}, "botvision"),
        ({**GOOD, "state_dict": []}, "state_dict"),
        ({name: value for name, value in GOOD.items() if name != "step"}, "step"),
        ({**GOOD, "botvision": {}}, "task"),
    ],
)
def test_a_checkpoint_of_something_else_is_named_in_one_line(tmp_path, content, named):
    path = tmp_path / "other.ckpt"
    torch.save(content, path)
    with pytest.raises(UserError, match=rf"other\.ckpt .*{named}") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrap", [lambda network: network, lambda network: {"model": network, "epoch": 3}])
def test_a_whole_network_in_a_file_is_named_with_what_to_do(tmp_path, wrap):
    torch.save(wrap(torch.nn.Linear(2, 2)), tmp_path / "whole.pt")
    for read in (read_checkpoint, read_state_dict):
        with pytest.raises(UserError, match=r"whole\.pt") as caught:
            read(tmp_path / "whole.pt")
        message = str(caught.value)
        assert all(part in message for part in ("torch.nn.modules.linear.Linear", "state_dict()"))
        assert message.isprintable() and "weights_only" not in message


def test_a_checkpoint_cut_off_in_the_middle_and_a_text_are_named_in_one_line(tmp_path):
    torch.save(GOOD, tmp_path / "whole.ckpt")
    whole = (tmp_path / "whole.ckpt").read_bytes()
    for name, content in {"half.ckpt": whole[: len(whole) // 2], "text.ckpt": b"experiment: x\n"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=name) as caught:
            read_checkpoint(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_of_a_run_folder_the_best_checkpoint_counts_else_the_last(tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    with pytest.raises(UserError, match=str(tmp_path)):
        checkpoint_of(tmp_path)
    for name in ("last.ckpt", "best.ckpt"):
        torch.save({**GOOD, "best": 0.3}, folder / name)
        assert checkpoint_of(tmp_path) == folder / name
    assert checkpoint_of(folder / "last.ckpt") == folder / "last.ckpt"


@pytest.mark.parametrize(("score", "taken"), [(0.0123, "best"), (0.0099, "last"), (0.0, "last")])
def test_the_checkpoint_that_is_taken_is_logged_with_its_step_and_the_best_score(tmp_path, caplog, score, taken):
    caplog.set_level("INFO", "botvision")
    (tmp_path / "checkpoints").mkdir()
    steps = {"best": 777, "last": 888}
    for name, step in steps.items():
        torch.save({**GOOD, "best": score, "step": step}, tmp_path / "checkpoints" / f"{name}.ckpt")
    file = checkpoint_of(tmp_path)
    assert file == tmp_path / "checkpoints" / f"{taken}.ckpt"
    (record,) = caplog.records
    for part in (file, steps[taken], f"{score:.4f}"):
        assert str(part) in record.getMessage()


def test_weights_are_the_average_where_there_is_one_and_it_is_wanted():
    average = {"weight": torch.zeros(3)}
    assert weights_of(GOOD) is GOOD["state_dict"]
    assert weights_of({**GOOD, "ema_state_dict": average}) is average
    assert weights_of({**GOOD, "ema_state_dict": average}, ema=False) is GOOD["state_dict"]


def test_the_folder_around_a_run_names_it(tmp_path):
    """As `botvision demo --out FOLDER` leaves one, with the data beside the run."""
    last = tmp_path / "demo" / "run" / "checkpoints" / "last.ckpt"
    last.parent.mkdir(parents=True)
    torch.save(GOOD, last)
    with pytest.raises(UserError, match=r"demo is neither .*; .*demo/run is one"):
        checkpoint_of(tmp_path / "demo")


def test_a_checkpoint_is_told_from_others_by_the_checksum_in_it_or_by_that_of_the_file(tmp_path):
    plain, marked = tmp_path / "plain.ckpt", tmp_path / "marked.ckpt"
    torch.save(GOOD, plain)
    assert checksum_of(plain) == hashlib.sha256(plain.read_bytes()).hexdigest()
    save(GOOD, marked)
    mark = marked.read_bytes()[-64:]
    assert (
        checksum_of(marked) == mark.decode() == hashlib.sha256(marked.read_bytes()[: -64 - len("sha256:")]).hexdigest()
    )
