"""The program around the commands: help, version, exit statuses and completion."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import botvision
from botvision.cli.app import COMMANDS, main, make_app
from botvision.errors import UserError
from botvision.experiments import EXPERIMENTS
from botvision.version import __version__


def test_without_words_the_commands_are_listed(run):
    status, out, _ = run()
    assert status == 0
    assert all(f"botvision {command}" in out for command in COMMANDS)
    assert run("--help") == (0, out, "")
    assert run("--version") == (0, __version__ + "\n", "")


def test_train_help_lists_the_experiments(run):
    status, out, _ = run("train", "--help")
    assert status == 0
    for name in EXPERIMENTS:  # those that differ in the model alone share a line
        group, _, model = name.partition("/")
        line = out[out.index(f"  {group}/") :]
        assert re.search(rf"\b{model}\b", line), name


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["tain"]])
def test_what_needs_no_network_does_not_import_pytorch(words):
    program = (
        f"import sys; from botvision.cli import main\ntry: main({words})\nfinally: assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == (2 if words == ["tain"] else 0), done.stderr
    assert len(done.stderr.splitlines()) == (1 if words == ["tain"] else 0)


def test_debug_shows_the_traceback():
    with pytest.raises(UserError, match="tain"):
        main(["--debug", "tain"])


@pytest.mark.parametrize(
    ("error", "status", "named"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(28, "No space left on device", "run/last.ckpt"), 2, "run/last.ckpt"),
        (UserError("two\nlines"), 2, r"two\nlines"),
    ],
)
def test_what_ends_a_command_is_one_line(monkeypatch, capsys, error, status, named):
    def fail(words):
        raise error

    monkeypatch.setattr("botvision.cli.app.run", fail)
    with pytest.raises(SystemExit) as caught:
        main(["models"])
    err = capsys.readouterr().err
    assert (caught.value.code, err.count("\n")) == (status, 1)
    assert named in err


def test_a_defect_of_the_program_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr("botvision.cli.app.run", lambda words: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["models"])


def test_a_reader_that_has_gone_is_no_error():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "botvision", "--help"], stdout=write, stderr=subprocess.PIPE, text=True, timeout=100
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_the_command_is_installed():
    command = shutil.which("botvision", path=str(Path(sys.executable).parent))
    assert command, "botvision is not beside the interpreter"
    printed = subprocess.run([command, "--version"], capture_output=True, text=True, check=True).stdout
    assert printed == __version__ + "\n"


def test_the_package_gives_what_it_names():
    assert all(hasattr(botvision, name) for name in botvision.__all__)
    assert not hasattr(botvision, "no_such_thing")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_knows_the_commands_and_their_options(shell):
    script = make_app().generate_completion(shell=shell)
    assert all(command in script for command in COMMANDS)
    assert "samples-per-shard" in script
