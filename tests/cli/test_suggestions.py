"""What is offered to a user whose words are those of another tool, or are misspelled."""

import re

import pytest


def offered(line: str) -> list[str]:
    """The options that a message names beside the first, which is the wrong one."""
    return re.findall(r"--[\w-]+", line)[1:]


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("train small/botnet50 --imgsz 640", "--input-size"),
        ("train imagenet/botnet50 --imgsz=640", "--input-size"),
        ("train small/botnet50 --batch 16", "--batch-size"),
        ("train small/botnet50 --lr0 0.01", "--lr"),
        ("train small/botnet50 --model resnet50", "--backbone"),
        ("train small/botnet50 --save_dir x", "--out"),
        ("predict x y --out z --conf 0.25", "--threshold"),
        ("predict x y --project z", "--out"),
        ("demo --epochs 3", "--steps"),
        ("bench step --batch-size 3", "--batch"),
    ],
)
def test_an_option_of_another_tool_is_answered_with_what_the_command_has(refusal, words, meant):
    assert offered(refusal(*words.split())) == [meant]


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("predict --weights best.pt --source a.jpg", "CHECKPOINT"),
        ("predict best.pt --source a.jpg", "IMAGES"),
        ("eval --model best.pt --data x", "CHECKPOINT"),
    ],
)
def test_what_comes_without_an_option_here_is_named(refusal, words, meant):
    line = refusal(*words.split())
    assert meant in line
    assert offered(line) == []


@pytest.mark.parametrize("option", ["--foo", "--iou", "--patience", "-b"])
def test_nothing_is_offered_where_nothing_is_close(refusal, option):
    line = refusal("train", "small/botnet50", option, 3)
    assert f"unknown option {option};" in line
    assert re.findall(r"--[\w-]+", line.partition(";")[2]) == ["--help"]


@pytest.mark.parametrize(
    "words",
    [
        "train data=coco128.yaml model=yolov8n.pt epochs=3",
        "train small/botnet50 epochs=3",
        "predict model=best.pt source=a.jpg",
        "eval model=best.pt data=coco128.yaml",
    ],
)
def test_words_with_an_equals_sign_are_answered_with_how_options_are_written(refusal, words):
    line = refusal(*words.split())
    assert "--data FOLDER" in line
    assert len(line) < 200


def test_a_folder_with_an_equals_sign_in_its_name_is_no_option(refusal, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "date=today").mkdir()
    line = refusal("predict", "date=today", "a.jpg")
    assert "--out" in line
    assert "FOLDER" not in line


def test_an_unknown_experiment_is_not_answered_with_all_of_them(refusal):
    line = refusal("train", "yolov8n")
    assert "botvision train" in line
    assert len(line) < 120
