"""What the user can mend: exit status 2, one line on standard error that names it, and nothing half-written."""

import json
import shutil
import subprocess
import sys
import traceback

import pytest
import torch
from PIL import Image

import botvision
from botvision.cli import main
from botvision.errors import UserError

TRAIN = "annotations/instances_train2017.json"


@pytest.fixture
def refusal(capsys):
    """Runs a command that must be refused; gives the one line on standard error."""

    def run(*words) -> str:
        with pytest.raises(SystemExit) as caught:
            main([str(word) for word in words])
        release(caught.value)
        output = capsys.readouterr()
        assert caught.value.code == 2, output.err
        assert output.out == ""
        lines = [
            line for line in output.err.splitlines() if not line.startswith(("training, step", "evaluating, image"))
        ]
        assert len(lines) == 1, output.err
        assert lines[0].startswith("botvision: ")
        assert "Traceback" not in lines[0]  # of a worker, on one line
        return lines[0]

    return run


def release(error: BaseException | None) -> None:
    """Let go of what the frames of an error hold: loaders found by the garbage collector end their workers slowly."""
    while error:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__


@pytest.fixture
def data(shapes, tmp_path):
    """A copy of the data set, to damage."""
    return shutil.copytree(shapes, tmp_path / "data")


@pytest.fixture
def refused_training(refusal, data, tiny_flags, tmp_path):
    """Trains on the damaged data set, which must be refused and leave no run folder."""

    def train(*more) -> str:
        out = tmp_path / "run"
        line = refusal("train", "small/botnet50", *tiny_flags, "--data", data, "--out", out, *more)
        assert not out.exists()
        return line

    return train


def change(file, edit) -> None:
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))


# --- data ---


def test_a_data_folder_that_is_not_there(refused_training, data):
    shutil.rmtree(data)
    assert str(data) in refused_training()


def test_no_data_folder_given(refusal):
    assert "--data" in refusal("train", "small/botnet50", "--device", "cpu")


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_data_folder_without_annotations(refused_training, data, split):
    (data / "annotations" / f"instances_{split}2017.json").unlink()
    assert f"instances_{split}2017.json" in refused_training()


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_data_folder_without_images(refused_training, data, split):
    shutil.rmtree(data / f"{split}2017")
    assert str(data / f"{split}2017") in refused_training()


def test_json_cut_off_in_the_middle(refused_training, data):
    text = (data / TRAIN).read_text()
    (data / TRAIN).write_text(text[: len(text) // 2])
    assert str(data / TRAIN) in refused_training()


@pytest.mark.parametrize(("field", "number"), [("category_id", 999), ("image_id", 999)])
def test_an_annotation_of_an_unknown_category_or_image(refused_training, data, field, number):
    change(data / TRAIN, lambda content: content["annotations"][3].update({field: number}))
    line = refused_training()
    assert f"'{field}' is {number}" in line
    assert "annotations[3]" in line


@pytest.mark.parametrize("name", ["../train2017/000000000001.jpg", "/etc/passwd", "C:\\a.jpg"])
def test_a_file_name_that_leads_out_of_the_folder(refused_training, data, name):
    change(data / TRAIN, lambda content: content["images"][0].update(file_name=name))
    line = refused_training()
    assert "file_name" in line
    assert "images[0]" in line


def test_splits_with_other_categories(refused_training, data):
    change(data / TRAIN, lambda content: content["categories"].append({"id": 99, "name": "more"}))
    assert "categories" in refused_training()


def first_image(data):
    return data / "train2017" / "000000000001.jpg"


def missing(file):
    file.unlink()


def empty(file):
    file.write_bytes(b"")


def truncated(file):
    file.write_bytes(file.read_bytes()[:700])


def resized(file):
    Image.new("RGB", (33, 44)).save(file)


def another_format(file):
    file.write_text("no image at all")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("damage", [missing, empty, truncated, resized, another_format])
def test_a_bad_image_file(refused_training, data, damage, workers):
    damage(first_image(data))
    line = refused_training("--workers", workers, "--batch-size", 8)
    assert str(first_image(data)) in line
    if damage is resized:
        assert "44 high and 33 wide" in line


def test_a_bad_image_file_in_evaluation_and_prediction(refusal, finished_run, data, tmp_path):
    file = data / "val2017" / "000000000009.jpg"
    truncated(file)
    for workers in (0, 1):
        assert str(file) in refusal("eval", finished_run, "--data", data, "--workers", workers, "--out", tmp_path / "e")
    assert not (tmp_path / "e").exists()
    assert str(file) in refusal("predict", finished_run, file, "--out", tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_boxes_that_teach_nothing_are_left_out_and_counted_in_one_line(data, tiny_flags, tmp_path, capsys, caplog):
    def spoil(content):
        content["annotations"][0]["bbox"] = [3, 3, 0, 10]
        content["annotations"][1]["bbox"] = [300, 3, 10, 10]
        content["annotations"][2]["bbox"] = [3, -30, 10, 10]

    change(data / TRAIN, spoil)
    with pytest.raises(SystemExit) as caught:
        main(["train", "small/botnet50", *tiny_flags, "--data", str(data), "--out", str(tmp_path / "run")])
    assert caught.value.code == 0
    (record,) = caplog.records
    assert "left out 3 annotations: 2 box outside its image, 1 box without area" in record.getMessage()
    assert "\n" not in record.getMessage()
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()


# --- words ---


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["tain"], "train"),
        (["train", "small/botnet5"], "small/botnet50"),
        (["train", "small/botnet50", "--batchsize", "4"], "--batch-size"),
        (["train", "small/botnet50", "--warmup-step", "4"], "--warmup-steps"),
        (["eval", "x", "--dat", "y"], "--data"),
        (["predict", "x", "y.jpg", "--treshold", "0.5", "--out", "z"], "--threshold"),
        (["train", "small/botnet50", "--steps", "many"], "--steps"),
        (["train", "small/botnet50", "--lr", "fast"], "--lr"),
        (["train", "small/botnet50", "--precision", "int8"], "--precision"),
        (["train", "small/botnet50", "--depths", "1", "2"], "--depths"),
        (["train", "--lr", "1"], "EXPERIMENT"),
        (["train", "--resume"], "exactly one run folder"),
        (["train", "--resume="], "exactly one run folder"),
        (["train", "--resume", "--json"], "exactly one run folder"),
        (["train", "--resume", "x", "--steps", "4"], "exactly one run folder"),
        (["train", "--resume", "x", "y"], "exactly one run folder"),
        (["train", "small/botnet50", "--resume", "x"], "exactly one run folder"),
        (["train", "--resume=x"], "x is no run folder"),
        (["train", "coco/botnt50"], "did you mean coco/botnet50"),
        (["train", "small/botnet50", "--btach-size", "4"], "did you mean --batch-size"),
        (["train", "small/botnet50", "--foo", "4"], "--help lists the options"),
        (["models", "botnt50"], "did you mean botnet50"),
        (["models", "a", "b"], "unknown option b"),
        (["models", "botnet50", "--input-size", "64"], "--tree"),
        (["models", "botnet50", "--tree", "--input-size", "0"], "--input-size must be at least 1"),
        (["models", "botnet50", "--tree", "--input-size", "-5"], "--input-size"),
        (["bench", "attention", "--repeats", "0"], "--repeats must be at least 1"),
        (["bench", "attention", "--batch", "0"], "--batch must be at least 1"),
        (["bench", "attention", "--heads", "0"], "--heads must be at least 1"),
        (["bench", "attention", "--head-width", "-1"], "--head-width"),
        (["bench", "attention", "--sizes"], "--sizes"),
        (["eval", "x"], "--data"),
        (["predict", "x", "--out", "y"], "image"),
        (["predict", "x", "y.jpg", "--out", "z", "--threshold", "50"], "--threshold"),
        (["demo", "--steps", "0"], "--steps"),
        (["train", "small/botnet50", "--steps", "4", "5"], "unknown option 5"),
        (["train", "small/botnet50", "--steps"], "--steps"),
    ],
)
def test_a_word_that_is_not_known_or_not_understood(refusal, tmp_path, monkeypatch, words, named):
    monkeypatch.chdir(tmp_path)
    assert named in refusal(*words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--batch-size", "4", "--images-per-device", "3"], "--batch-size"),
        (["--batch-size", "0"], "--batch-size"),
        (["--steps", "-1"], "--steps"),
        (["--save-every", "0"], "--save-every"),
        (["--epochs", "0"], "--epochs"),
        (["--workers", "-1"], "--workers"),
        (["--train-images", "0"], "--train-images"),
        (["--val-images", "-1"], "--val-images"),
        (["--jitter", "2", "1"], "--jitter"),
        (["--jitter", "0", "1"], "--jitter"),
        (["--flip", "1.5"], "--flip"),
        (["--seed", "-1"], "--seed"),
        (["--backbone", "botnet5"], "botnet50"),
        (["--weights", "nowhere.pth"], "nowhere.pth"),
        (["--train-split", "test"], "instances_test2017.json"),
    ],
)
def test_a_setting_that_cannot_run(refused_training, flags, named):
    assert named in refused_training(*flags)


SETTINGS = [
    "--input-size 0",
    "--width 0",
    "--depths 1 0 1 1",
    "--fpn-channels 0",
    "--box-head-width 0",
    "--mask-head-width 0",
    "--mask-head-depth -1",
    "--anchor-ratios",
    "--anchor-ratios 1 -1",
    "--anchor-scale 0",
    "--rpn-foreground-iou 0.1",
    "--rpn-foreground-iou nan",
    "--rpn-nms 2",
    "--rpn-samples 0",
    "--roi-samples 0",
    "--proposals 0 0",
    "--detections 0",
    "--norm-momentum 5",
    "--norm-epsilon 0",
    "--lr 0",
    "--lr inf",
    "--momentum -1",
    "--momentum 2",
    "--weight-decay -1",
    "--clip-norm -1",
    "--warmup-steps -1",
    "--decay-at 2",
    "--seed -1",
    "--epochs inf",
]


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_out_of_its_limits_is_refused_before_it_is_printed(refusal, setting):
    flag, *_ = setting.split()
    line = refusal("train", "small/botnet50", *setting.split(), "--print-config")
    assert line.startswith(f"botvision: {flag} must be ")


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--batch-size", "0"], "--batch-size"),
        (["--workers", "-1"], "--workers"),
        (["--images", "0"], "--images"),
        (["--pictures", "-1"], "--pictures"),
        (["--device", "tpu"], "--device"),
    ],
)
def test_an_evaluation_that_cannot_run(refusal, finished_run, shapes, tmp_path, flags, named):
    assert named in refusal("eval", finished_run, "--data", shapes, "--out", tmp_path / "out", *flags)
    assert not (tmp_path / "out").exists()


def test_pictures_need_a_folder_which_is_said_before_the_work(refusal, finished_run, shapes):
    checkpoint = finished_run / "checkpoints" / "last.ckpt"
    assert "--out" in refusal("eval", checkpoint, "--data", shapes, "--pictures", 1)


def test_a_run_folder_that_is_taken(refusal, finished_run, tiny_flags):
    before = sorted(finished_run.rglob("*"))
    assert str(finished_run) in refusal("train", "small/botnet50", *tiny_flags, "--out", finished_run)
    assert sorted(finished_run.rglob("*")) == before


@pytest.mark.skipif(sys.platform == "win32", reason="files are no folders elsewhere")
def test_what_the_system_refuses_is_one_line_too(refusal, finished_run, shapes, tmp_path):
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "out"
    assert str(tmp_path / "file") in refusal("eval", finished_run, "--data", shapes, "--out", out, "--images", 1)


# --- checkpoints ---


@pytest.mark.parametrize("command", ["eval", "predict"])
def test_a_checkpoint_that_is_none(refusal, shapes, tmp_path, command):
    rest = ["--data", shapes] if command == "eval" else [first_image(shapes), "--out", tmp_path / "out"]
    assert str(tmp_path / "gone") in refusal(command, tmp_path / "gone", *rest)
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    assert str(tmp_path / "text.ckpt") in refusal(command, tmp_path / "text.ckpt", *rest)
    torch.save({"weight": torch.ones(3)}, tmp_path / "other.pth")
    assert str(tmp_path / "other.pth") in refusal(command, tmp_path / "other.pth", *rest)
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_of_another_model(refusal, finished_run, shapes, tmp_path):
    path = tmp_path / "wrong.ckpt"
    content = torch.load(finished_run / "checkpoints" / "last.ckpt", weights_only=True)
    content["botvision"]["model"]["width"] = 16
    torch.save(content, path)
    assert str(path) in refusal("eval", path, "--data", shapes)


def test_a_detector_of_other_categories(refusal, finished_run, data):
    change(data / "annotations" / "instances_val2017.json", lambda c: c["categories"][0].update(name="disc"))
    assert "categories" in refusal("eval", finished_run, "--data", data)


def test_weights_that_fit_nothing(refused_training, tmp_path):
    torch.save({"other": torch.ones(3)}, tmp_path / "other.pth")
    assert "other" in refused_training("--weights", tmp_path / "other.pth")


# --- resume ---


@pytest.fixture
def a_run(finished_run, tmp_path):
    """A copy of a finished run, with two more steps to go."""
    folder = shutil.copytree(finished_run, tmp_path / "run")
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("steps: 4\n", "steps: 6\n"))
    return folder


def test_resume_of_what_is_no_run(refusal, tmp_path):
    assert str(tmp_path / "gone") in refusal("train", "--resume", tmp_path / "gone")
    assert str(tmp_path) in refusal("train", "--resume", tmp_path)


def test_resume_of_a_run_without_a_checkpoint(refusal, a_run):
    shutil.rmtree(a_run / "checkpoints")
    assert str(a_run / "checkpoints" / "last.ckpt") in refusal("train", "--resume", a_run)


def test_resume_with_a_damaged_checkpoint(refusal, a_run):
    last = a_run / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    assert str(last) in refusal("train", "--resume", a_run)


@pytest.mark.parametrize(
    ("part", "value"), [("global_step", None), ("botvision", "text"), ("botvision", {}), ("state_dict", 1)]
)
def test_resume_with_a_checkpoint_of_other_parts(refusal, a_run, part, value):
    last = a_run / "checkpoints" / "last.ckpt"
    torch.save(torch.load(last, weights_only=True) | {part: value}, last)
    line = refusal("train", "--resume", a_run)
    assert f"{last} is no botvision checkpoint" in line
    assert part in line


def test_resume_with_a_configuration_that_is_no_text(refusal, a_run):
    (a_run / "config.yaml").write_bytes(b"experiment: \xff\xfe\n")
    assert str(a_run / "config.yaml") in refusal("train", "--resume", a_run)


def test_resume_of_another_model_keeps_the_run(refusal, a_run):
    config = a_run / "config.yaml"
    config.write_text(config.read_text().replace("width: 8\n", "width: 16\n"))
    assert str(a_run / "checkpoints" / "last.ckpt") in refusal("train", "--resume", a_run)
    assert (a_run / "checkpoints" / "last.ckpt").exists()


def test_resume_with_a_value_out_of_its_limits(refusal, a_run):
    config = a_run / "config.yaml"
    config.write_text(config.read_text().replace("momentum: 0.9\n", "momentum: 2\n"))
    assert f"{config}: --momentum must be" in refusal("train", "--resume", a_run)


def test_resume_with_a_value_of_the_wrong_type(refusal, a_run):
    config = a_run / "config.yaml"
    config.write_text(config.read_text().replace("batch_size: 4\n", "batch_size: four\n"))
    line = refusal("train", "--resume", a_run)
    assert str(config) in line
    assert "batch_size" in line


# --- the way out ---


@pytest.mark.parametrize("word", ["--version", "--help"])
def test_what_needs_no_network_does_not_wait_for_one(word):
    program = f"""
import sys
from botvision.cli import main
try:
    main(["{word}"])
finally:
    assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_an_interruption_while_a_command_is_imported_is_one_line(monkeypatch, capsys):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("botvision.commands.import_module", interrupted)
    with pytest.raises(SystemExit) as caught:
        main(["models"])
    assert (caught.value.code, capsys.readouterr().err) == (130, "botvision: interrupted\n")


def test_the_package_gives_what_it_names():
    assert all(hasattr(botvision, name) for name in botvision.__all__)
    assert not hasattr(botvision, "no_such_thing")


def test_debug_shows_the_traceback():
    with pytest.raises(UserError, match="tain"):
        main(["--debug", "tain"])
