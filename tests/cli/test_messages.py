"""How messages write names: fields as flags, and what the user gave as it was given."""

import re

import pytest

from botvision.cli.messages import message_of
from botvision.configuration import FieldError


@pytest.mark.parametrize(
    ("words", "flag", "kept"),
    [
        (["data", "convert", "my_data", "--out", "out", "--from", "yolo"], "--from", "my_data"),
        (["paper", "context", "--rows", "botnet_qk_relativ"], "--rows", "botnet_qk_qr_relative"),
    ],
)
def test_only_names_of_fields_become_flags(refusal, tmp_path, monkeypatch, words, flag, kept):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_data").mkdir()
    line = refusal(*words)
    assert kept in line
    assert re.findall(r"--[\w-]+", line) == [flag]


def test_a_field_beside_the_wrong_one_becomes_a_flag_too(refusal):
    line = refusal("train", "small/botnet50", "--rpn-foreground-iou", 0.1, "--print-config")
    assert re.findall(r"--[\w-]+", line) == ["--rpn-foreground-iou", "--rpn-background-iou"]


def test_a_file_of_the_name_of_a_field_stays_a_file():
    error = FieldError(("run", "batch_size"), "goes with val_images, not with the file val_images", ("val_images",))
    assert message_of(error) == "--batch-size: goes with --val-images, not with the file val_images"
