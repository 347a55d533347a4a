"""What a user reads before anything runs: help with examples, common flags first, the table of models."""

import re
import shlex

import pytest

from botvision.cli.app import make_app
from botvision.cli.examples import EXAMPLES
from botvision.cli.experiment_flags import COMMON_FIELDS, SECTIONS
from botvision.experiments import EXPERIMENTS
from botvision.models import list_models


def commands(app) -> set[str]:
    """The words of every command, also of those inside others."""
    names = [name for name in app if not name.startswith("-") and name != "__complete"]
    return {inner for name in names for inner in (name, *(f"{name} {word}" for word in commands(app[name])))}


def test_every_command_has_examples():
    assert commands(make_app()) == set(EXAMPLES)


@pytest.mark.parametrize("command", EXAMPLES)
def test_the_help_shows_examples_that_parse(run, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "200")
    status, out, _ = run(*command.split(), "--help")
    assert status == 0
    for line in EXAMPLES[command]:
        assert f"  {line}\n" in out
        words = shlex.split(line, comments=True)
        assert words[0] == "botvision" and line.startswith(f"botvision {command}")
        if command != "train":
            make_app().parse_args(words[1:], print_error=False, exit_on_error=False)
        elif words[2] != "--resume":
            assert run(*words[1:], "--print-config")[0] == 0


@pytest.mark.parametrize("name", ["coco/botnet50", "coco/detr_botnet50", "imagenet/botnet50"])
def test_the_common_flags_of_an_experiment_come_first(run, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "100")
    status, out, _ = run("train", name, "--help")
    assert status == 0
    starts = [out.index(f"─ {title} ─") for title in ("Common", *(group.name for group in SECTIONS.values()))]
    assert starts == sorted(starts)
    flags = re.findall(r"^│ --([a-z-]+)", out[: starts[1]], re.MULTILINE)
    known = {field for _, section in EXPERIMENTS[name].config for field in type(section).model_fields}
    common = [field.replace("_", "-") for field in COMMON_FIELDS if field in known]
    assert [flag for flag in flags if flag in common] == common
    assert flags[:2] == ["data", "out"]
    (resume,) = [line for line in out.splitlines() if "--resume" in line]
    assert f"--resume runs/{name.replace('/', '-')}" in resume


def test_the_help_says_the_learning_rate_that_an_experiment_uses(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    for name, used in (("small/botnet50", "0.08 with 4 "), ("imagenet/botnet50", "0.4 with 1024 ")):
        assert f"Here: {used}" in run("train", name, "--help")[1]


def test_the_models_have_their_whole_names_in_a_narrow_terminal(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    status, out, _ = run("models")
    assert status == 0
    lines = [line.split() for line in out.splitlines()]
    assert set(list_models()) <= {words[0] for words in lines if words}
    assert all(len(line) <= 80 for line in out.splitlines())
    assert "\\[" not in out
