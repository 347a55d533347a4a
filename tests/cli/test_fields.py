"""Flags made from the fields of an experiment."""

import pytest
import yaml

from botvision.experiments import EXPERIMENTS


def config(run, *words) -> dict:
    status, out, err = run("train", *words, "--print-config")
    assert (status, err) == (0, "")
    return yaml.safe_load(out)


@pytest.mark.parametrize("name", ["small/botnet50", "imagenet/botnet50"])
def test_help_documents_every_field(run, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "100")
    status, out, _ = run("train", name, "--help")
    assert status == 0
    assert "--print-config" in out
    flat = "".join(character for character in out if character.isalnum())
    for _, section in EXPERIMENTS[name].config:
        for field, description in type(section).model_fields.items():
            assert f"--{field.replace('_', '-')}" in out
            assert "".join(character for character in description.description if character.isalnum()) in flat, field


def test_help_shows_the_experiments_own_defaults(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("small/botnet50", "coco/botnet50"):
        lines = run("train", name, "--help")[1].splitlines()
        (line,) = [line for line in lines if "--batch-size " in line]
        assert f"[default: {EXPERIMENTS[name].config.run.batch_size}]" in line


def test_tuples_take_several_values_and_none_clears(run):
    words = ["--jitter", 0.5, 2.0, "--depths", 1, 2, 1, 2, "--decay-at", 0.5]
    words += ["--images-per-device", 2, "--clip-norm", "none"]
    found = config(run, "small/botnet50", *words)
    assert (found["data"]["jitter"], found["model"]["depths"]) == ([0.5, 2.0], [1, 2, 1, 2])
    assert found["optimizer"]["decay_at"] == [0.5]
    assert (found["run"]["images_per_device"], found["run"]["clip_norm"]) == (2, None)
    assert EXPERIMENTS["small/botnet50"].config.run.clip_norm is not None


def test_booleans_have_two_flags(run):
    assert config(run, "small/botnet50", "--compile")["run"]["compile"] is True
    assert config(run, "small/botnet50", "--no-compile")["run"]["compile"] is False


def test_fields_that_are_not_given_keep_the_experiments_values(run):
    found = config(run, "small/botnet50", "--lr", 0.5)
    wanted = EXPERIMENTS["small/botnet50"].config.plain()
    wanted["optimizer"]["lr"] = 0.5
    assert {section: found[section] for section in wanted} == wanted


def test_of_a_flag_given_twice_the_last_value_counts(run):
    found = config(run, "small/botnet50", "--batch-size", 4, "--jitter", 0.5, 1, "--batch-size", 8, "--jitter", 0.6, 2)
    assert (found["run"]["batch_size"], found["data"]["jitter"]) == (8, [0.6, 2.0])
