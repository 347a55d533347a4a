"""Two processes over gloo train as one does on the same global batch, and stop together."""

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

from botvision.checkpoint import read_checkpoint
from botvision.cli.messages import is_lost_process, message_of
from botvision.training.checkpoint import save
from botvision.training.trainer import start
from botvision.version import __version__

pytestmark = pytest.mark.slow  # each process imports PyTorch
SCRIPT = Path(__file__).with_name("linear_task.py")
spec = importlib.util.spec_from_file_location("linear_task", SCRIPT)
linear_task = importlib.util.module_from_spec(spec)
spec.loader.exec_module(linear_task)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where two processes, started as torchrun starts them, ran linear_task.py; tests must not change it."""
    out = tmp_path_factory.mktemp("two")
    begun = linear_task.LinearTask(linear_task.settings(out / "continued"))
    begun.after_step = lambda model, step: step != 2 or os.kill(os.getpid(), signal.SIGINT)
    assert start(begun, "linear", Console(stderr=True)).stopped
    for mode in linear_task.OWN_DISK:
        for rank in ("0", "1"):
            run = shutil.copytree(out / "continued", out / mode / rank / "run")
        last = run / "checkpoints" / "last.ckpt"
        content = read_checkpoint(last)
        last.unlink()
        if mode == "checkpoint":
            save(content | {"step": 1}, last)
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    shared |= {"TORCHELASTIC_RUN_ID": "test", "GROUP_RANK": "0"}
    children = []
    for rank in ("0", "1"):
        with (out / f"{rank}.txt").open("w") as errors:
            environ = {**os.environ, **shared, "RANK": rank, "LOCAL_RANK": rank}
            children.append(subprocess.Popen([sys.executable, SCRIPT, out], env=environ, stderr=errors))
    try:
        assert [child.wait(timeout=300) for child in children] == [0, -signal.SIGKILL], (out / "0.txt").read_text()
    finally:
        for child in children:
            child.kill()
    return out


@pytest.fixture
def both(folder):
    """What each of the two processes saw of its runs."""
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def last_of(folder):
    return read_checkpoint(folder / "checkpoints" / "last.ckpt")


def test_they_train_as_one_process_does(folder, both, make_task, rows_of):
    task = make_task(steps=4, eval_every=4)
    one, two = start(task, "linear", Console(stderr=True)).folder, folder / "plain"
    for name in ("out.1.weight", "out.1.bias"):
        own, other = (last_of(run)["state_dict"][name] for run in (two, one))
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-6)
    for table, names in (("metrics", ("loss", "error")), ("evaluations", ("val_error",))):
        for row, expected in zip(rows_of(two, table), rows_of(one, table), strict=True):
            for name in names:  # means over both, not those of the first
                assert float(row[name]) == pytest.approx(float(expected[name]), rel=1e-5)
    batches = [first + second for first, second in zip(*(seen["plain"]["batches"] for seen in both), strict=True)]
    steps = [sorted(first + second) for first, second in zip(batches[::2], batches[1::2], strict=True)]
    assert steps == [sorted(batch) for batch in task.seen]


def test_they_know_the_same_folder_and_evaluate_the_same_network(folder, both):
    assert [seen["plain"]["folder"] for seen in both] == [str(folder / "plain")] * 2
    assert both[0]["plain"]["buffers"] == both[1]["plain"]["buffers"]


def test_only_the_first_one_speaks(folder):
    first, second = ((folder / f"{rank}.txt").read_text() for rank in (0, 1))
    assert "step 4: error" in first
    assert "distributed_backend" not in first
    unread = [f"process 1: left out {name}.png: cut off" for name in "ab"]  # by the second alone
    assert second.splitlines() == unread


def test_a_loss_of_nan_on_the_second_stops_both_at_the_same_step(folder, both):
    assert ["nan at step 4" in seen["nan"]["error"] for seen in both] == [True, True]
    assert [len(seen["nan"]["batches"]) for seen in both] == [8, 8]
    assert last_of(folder / "nan")["step"] == 2


def test_a_signal_to_the_second_stops_both_with_a_checkpoint(folder, both):
    assert [(seen["signal"]["steps"], seen["signal"]["stopped"]) for seen in both] == [(3, True)] * 2
    assert last_of(folder / "signal")["step"] == 3


def test_unreadable_images_of_the_second_stop_both(both):
    assert "a.png (cut off), b.png" in both[1]["unreadable"]["error"]
    assert "process" in both[0]["unreadable"]["error"]
    assert [len(seen["unreadable"]["batches"]) for seen in both] == [6, 6]


def test_an_answer_of_nan_on_the_second_stops_both_and_takes_the_checkpoint_back(folder, both):
    assert ["not finite" in seen["answers"]["error"] for seen in both] == [True, True]
    assert last_of(folder / "answers")["step"] == 2


def test_a_signal_in_the_evaluation_of_the_second_stops_both_and_one_makes_it_up(folder, both, rows_of, tmp_path):
    assert [(seen["evaluation"]["steps"], seen["evaluation"]["requeue"]) for seen in both] == [(4, True)] * 2
    run = shutil.copytree(folder / "evaluation", tmp_path / "run")
    assert (rows_of(run, "evaluations"), (run / "eval").exists()) == ([], False)
    assert start(linear_task.LinearTask(linear_task.settings(run)), "linear", Console(stderr=True)).steps == 4
    (own,), (other,) = rows_of(run, "evaluations"), rows_of(folder / "plain", "evaluations")
    assert float(own["val_error"]) == pytest.approx(float(other["val_error"]), rel=1e-6)


def test_a_signal_ends_an_evaluation_whose_data_do_not_come_for_the_second(both):
    """While the first one waits for its results: no signal may come in between."""
    assert [(seen["stalled"]["steps"], seen["stalled"]["requeue"]) for seen in both] == [(4, True)] * 2


def test_they_go_on_with_a_run_of_one_process(folder, both):
    """With the same images in each step, and no other difference than that of rounding."""
    batches = {name: [seen[name]["batches"] for seen in both] for name in ("plain", "continued")}
    assert batches["continued"] == [own[4:] for own in batches["plain"]]  # two batches a step
    for name in ("out.1.weight", "out.1.bias"):
        own, other = (last_of(folder / run)["state_dict"][name] for run in ("continued", "plain"))
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-6)


def test_a_lost_process_is_said_and_the_run_goes_on_from_its_checkpoint(folder):
    error = RuntimeError((folder / "lost.txt").read_text())
    assert is_lost_process(error)
    assert "another process" in message_of(error)
    assert (folder / "failure.txt").read_text() == "None"  # nobody says that an error ended it
    assert last_of(folder / "lost")["step"] == 2


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are listed by Linux alone")
def test_no_thread_of_the_connection_is_left_when_python_ends(folder):
    """One that lives on can abort the process; here after a lost process, in whose steps the network was connected."""
    threads = json.loads((folder / "0-threads.json").read_text())
    assert threads != []
    assert [name for name in threads if "gloo" in name] == []


def test_what_the_second_has_otherwise_is_named_by_both(both, folder):
    """Data, and the file of a checkpoint: each process would train on with its own."""
    for mode, parts in {"data": ("24 (process 0", "23 (process 1"), "checkpoint": ("step 2,", "step 1,")}.items():
        for seen in both:
            assert all(part in seen[mode]["error"] for part in parts)
            assert seen[mode]["batches"] == []
    assert not (folder / "data").exists()


def test_what_the_second_alone_cannot_begin_with_stops_both(both):
    """Too little memory, and a checkpoint that only the first one sees."""
    for mode, part in {"memory": "images at once need", "missing": "last.ckpt"}.items():
        for seen in both:
            assert part in seen[mode]["error"]
            assert "process 1" in seen[mode]["error"]


def test_different_versions_are_named(both, folder):
    for seen in both:
        assert all(version in seen["versions"]["error"] for version in ("0.0.1", __version__))
        assert seen["versions"]["batches"] == []
    assert not (folder / "versions").exists()
