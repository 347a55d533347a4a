"""The program around the commands: help, version, exit statuses and completion."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import botvision
from botvision.cli.app import COMMANDS, main, make_app
from botvision.cli.examples import EXAMPLES
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


WITHOUT_NETWORK = [
    (),
    ("--version",),
    ("help",),
    ("tain",),
    *(("help", command) for command in COMMANDS),
    *((*command.split(), "--help") for command in EXAMPLES),
    ("train", "coco/botnet50", "--help"),
    ("train", "table9/botnet50", "--help"),
    ("train", "imagenet/botnet50", "--print-config"),
    ("train", "--resume", "run", "--help"),
    ("models",),
    ("models", "botnet50", "--tree"),
    ("paper", "table1"),
]
"""Words of commands that print what is known before any network is made."""


def test_what_needs_no_network_does_not_import_pytorch():
    """One process runs them all, and names the first command after which PyTorch is there."""
    program = f"""
import sys
from botvision.cli import main
for words in {WITHOUT_NETWORK}:
    try:
        main(words)
    except SystemExit as left:
        assert left.code == (2 if words == ("tain",) else 0), words
    assert "torch" not in sys.modules, words
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_program_is_a_module_too():
    words = [sys.executable, "-m", "botvision", "--version"]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == __version__ + "\n"


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
    script = make_app(for_completion=True).generate_completion(shell=shell)
    assert all(command in script for command in COMMANDS)
    assert "samples-per-shard" in script
    assert "stochastic-depth" in script and "copy-paste" in script  # fields of experiments


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("bench", "gro"), "growth"),
        (("shards", "images", "--samp"), "--samples-per-shard"),
        (("train", "small/botnet50", "--batch-s"), "--batch-size"),
        (("train", "finetune/bot"), "finetune/botnet50"),
    ],
)
def test_bash_completes(tmp_path, words, offered):
    (tmp_path / "completion").write_text(make_app(for_completion=True).generate_completion(shell="bash"))
    program = f"""
source {tmp_path / "completion"}
COMP_WORDS=(botvision {shlex.join(words)}); COMP_CWORD={len(words)}
_botvision
printf '%s\n' "${{COMPREPLY[@]}}"
"""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, env={**os.environ, "PATH": path})
    assert done.stdout.split() == [offered], done.stderr
