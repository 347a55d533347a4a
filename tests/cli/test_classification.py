"""eval, predict and attend for classifiers: what they print and leave behind, and what they refuse in one line."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from botvision.tasks.classification import Classifier, ClassifierConfig
from botvision.tasks.classification.checkpoint import describe

CLASSES = ["n1", "n2", "n3", "n4", "n5", "n6"]
NAMES = ["one [bold]", "two", "three", "four", "five", "six"]
TINY = {"depths": (1, 1, 1, 1), "width": 8, "input_size": 64}
VAL_IMAGES = 12


def save_classifier(path: Path, model: str = "botnet50") -> Path:
    """A checkpoint of two classifiers, the average of the weights and the weights themselves, that answer unlike."""
    config = ClassifierConfig(model=model, **TINY)
    states = []
    for seed in range(2):
        torch.manual_seed(seed)
        classifier = Classifier(config, len(CLASSES))
        with torch.no_grad():
            classifier.network.fc.weight.normal_(std=0.5)
        states.append(classifier.state_dict())
    about = describe(config, CLASSES, NAMES)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"botvision": about, "state_dict": states[0], "ema_state_dict": states[1], "step": 1}
    torch.save(content, path)
    return path


@pytest.fixture(scope="module")
def classifier_run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("classifier") / "run"
    save_classifier(folder / "checkpoints" / "last.ckpt")
    return folder


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    """Two images of each class."""
    root = tmp_path_factory.mktemp("photographs")
    generator = np.random.default_rng(0)
    for number in range(VAL_IMAGES):
        folder = root / "val" / CLASSES[number // 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (16, 20, 3), dtype=np.uint8)
        name = f"ILSVRC2012_val_{number + 1:08}.JPEG"
        Image.fromarray(pixels).resize((100, 80)).save(folder / name, format="JPEG")
    return root


# --- eval ---


def test_eval_prints_nothing_but_json_and_writes_beside_the_run(run, classifier_run, photographs, tmp_path):
    folder = shutil.copytree(classifier_run, tmp_path / "run")
    status, out, err = run("eval", folder, "--data", photographs, "--json")
    assert status == 0, err
    scores = json.loads(out)
    assert list(scores)[:6] == ["top1", "top5", "loss", "ece", "images", "skipped"]
    assert (scores["images"], scores["skipped"]) == (VAL_IMAGES, 0)
    written = json.loads((folder / "eval" / "val" / "metrics.json").read_text())
    assert {name: written[name] for name in scores} == scores
    assert written["checkpoint"] == str(folder / "checkpoints" / "last.ckpt")
    assert (written["split"], written["input_size"], written["crop"], written["ema"]) == ("val", 64, 0.875, True)
    with (folder / "eval" / "val" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == VAL_IMAGES
    assert np.mean([row["label"] == row["predicted"] for row in rows]) == pytest.approx(scores["top1"])
    assert {row["label_name"] for row in rows} == set(NAMES)
    assert Image.open(folder / "eval" / "val" / "confusion.png").width > 1000
    assert str(folder / "eval" / "val") in err


def test_eval_as_a_table(run, classifier_run, photographs, tmp_path):
    status, out, _ = run("eval", classifier_run, "--data", photographs, "--out", tmp_path / "out")
    assert status == 0
    assert all(word in out for word in ("top-1 (%)", "top-5 (%)", "loss", "calibration error (%)", "taken for"))
    confused = json.loads((tmp_path / "out" / "metrics.json").read_text())["most_confused"]
    assert confused
    assert all(pair["label"] in out and pair["predicted"] in out for pair in confused)


def test_eval_at_another_size_and_crop_and_with_other_weights(run, classifier_run, photographs):
    """Every one of them changes what the network says; all are repeatable, in batches of any size."""

    def loss(*flags) -> float:
        checkpoint = classifier_run / "checkpoints" / "last.ckpt"
        status, out, err = run("eval", checkpoint, "--data", photographs, "--json", "--workers", 0, *flags)
        assert status == 0, err
        return json.loads(out)["loss"]

    variants = [(), ("--no-ema",), ("--input-size", 96), ("--crop", 1), ("--images", 6)]
    losses = [loss(*flags) for flags in variants]
    assert len({round(value, 4) for value in losses}) == len(variants)
    again = [loss("--batch-size", 5, *flags) for flags in variants]
    assert again == pytest.approx(losses, rel=1e-4)
    assert loss("--input-size", 64, "--crop", 0.875, "--ema") == pytest.approx(losses[0], rel=1e-6)


def test_eval_of_a_split_that_has_a_folder(run, classifier_run, photographs, tmp_path):
    data = shutil.copytree(photographs, tmp_path / "data")
    shutil.copytree(data / "val" / "n2", data / "test" / "n2")
    flags = ("--data", data, "--split", "test", "--out", tmp_path / "out", "--json")
    status, out, err = run("eval", classifier_run, *flags)
    assert status == 0, err
    assert json.loads(out)["images"] == 2
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        assert {Path(row["path"]).parents[1] for row in csv.DictReader(file)} == {data / "test"}


def test_eval_by_labels_of_imagenet_real(run, classifier_run, photographs, tmp_path):
    """Every label right for half of the images, none for one: all others, half of the rest."""
    everything = list(range(len(CLASSES)))
    entries = [everything if number % 2 else [] for number in range(50_000)]
    (tmp_path / "real.json").write_text(json.dumps(entries))
    status, out, err = run(
        "eval",
        classifier_run,
        "--data",
        photographs,
        "--labels",
        tmp_path / "real.json",
        "--json",
        "--out",
        tmp_path / "o",
    )
    assert status == 0, err
    scores = json.loads(out)
    assert (scores["top1"], scores["top5"], scores["images"]) == (1.0, 1.0, VAL_IMAGES // 2)
    assert scores["loss"] == pytest.approx(0, abs=1e-9)
    assert json.loads((tmp_path / "o" / "metrics.json").read_text())["labels"] == str(tmp_path / "real.json")


def test_eval_of_numbered_folders_is_that_of_named_ones(run, classifier_run, photographs, tmp_path):
    for number, name in enumerate(CLASSES):
        shutil.copytree(photographs / "val" / name, tmp_path / "v2" / str(number))
    files = sorted((tmp_path / "v2").rglob("*.JPEG"))
    lines = [f"{file.parent.name}/{file.name} {file.parent.name}\n" for file in files]
    (tmp_path / "list.txt").write_text("".join(lines))
    flags = ("--json", "--out", tmp_path / "out")
    wanted = json.loads(run("eval", classifier_run, "--data", photographs, *flags)[1])
    assert json.loads(run("eval", classifier_run, "--data", tmp_path / "v2", *flags)[1]) == wanted
    labels = ("--labels", tmp_path / "list.txt")
    assert json.loads(run("eval", classifier_run, "--data", tmp_path / "v2", *labels, *flags)[1]) == wanted


def test_eval_leaves_out_an_unreadable_image_and_refuses_two(run, refusal, classifier_run, photographs, tmp_path):
    data = shutil.copytree(photographs, tmp_path / "data")
    first, second, *_ = sorted(data.rglob("*.JPEG"))
    first.write_bytes(first.read_bytes()[:200])
    status, out, _ = run("eval", classifier_run, "--data", data, "--out", tmp_path / "out", "--json")
    assert (status, json.loads(out)["skipped"], json.loads(out)["images"]) == (0, 1, VAL_IMAGES - 1)
    _, table, _ = run("eval", classifier_run, "--data", data, "--out", tmp_path / "out")
    assert "unreadable images" in table
    second.write_text("no image")
    line = refusal("eval", classifier_run, "--data", data, "--out", tmp_path / "none")
    assert str(first) in line
    assert str(second) in line
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ("--classes", "--classes"),
        ("--pictures 2", "--pictures"),
        ("--crop 0", "--crop"),
        ("--crop 1.5", "--crop"),
        ("--crop nan", "--crop"),
        ("--input-size 0", "--input-size"),
        ("--input-size 16", "at least 32x32 pixels"),
        ("--split test2017", "holds no test2017/"),
        ("--split train", "train"),
        ("--labels gone.json", "gone.json"),
        ("--images 0", "--images"),
        ("--batch-size 0", "--batch-size"),
    ],
)
def test_an_evaluation_that_cannot_run(refusal, classifier_run, photographs, tmp_path, flags, named):
    out = tmp_path / "out"
    assert named in refusal("eval", classifier_run, "--data", photographs, "--out", out, "--workers", 0, *flags.split())
    assert not out.exists()


@pytest.mark.parametrize("flag", ["--input-size 64", "--crop 1", "--labels x.json", "--no-ema"])
def test_flags_of_classifiers_do_not_belong_to_a_detector(refusal, finished_run, shapes, flag):
    line = refusal("eval", finished_run, "--data", shapes, *flag.split())
    assert flag.split()[0].replace("--no-", "--") in line
    assert "detection" in line


def test_data_of_other_classes(refusal, classifier_run, photographs, tmp_path):
    data = shutil.copytree(photographs, tmp_path / "data")
    (data / "val" / "n1").rename(data / "val" / "dog")
    assert "'dog'" in refusal("eval", classifier_run, "--data", data, "--out", tmp_path / "out")
    assert "nowhere" in refusal("eval", classifier_run, "--data", tmp_path / "nowhere")


def test_a_real_file_that_is_none(refusal, classifier_run, photographs, tmp_path):
    (tmp_path / "real.json").write_text("[[1]")
    flags = ("--labels", tmp_path / "real.json", "--out", tmp_path / "out")
    assert str(tmp_path / "real.json") in refusal("eval", classifier_run, "--data", photographs, *flags)
    assert not (tmp_path / "out").exists()


# --- predict ---


def test_predict_prints_a_table_and_writes_results_and_pictures(run, classifier_run, photographs, tmp_path):
    files = sorted((photographs / "val" / "n1").iterdir())
    status, out, err = run("predict", classifier_run, photographs / "val" / "n1", "--out", tmp_path, "--top", 2)
    assert status == 0, err
    results = json.loads((tmp_path / "predictions.json").read_text())
    assert [result["path"] for result in results] == [str(file) for file in files]
    for result in results:
        assert len(result["classes"]) == 2
        for entry in result["classes"]:
            assert entry["name"] in out
            assert NAMES[CLASSES.index(entry["class"])] == entry["name"]
            assert f"{100 * entry['probability']:.1f}" in out
    assert len(list(tmp_path.glob("*.png"))) == len(files)
    status, out, _ = run("predict", classifier_run, files[0], "--out", tmp_path, "--json")
    assert (status, len(json.loads(out)[0]["classes"])) == (0, 5)
    assert json.loads(out) == json.loads((tmp_path / "predictions.json").read_text())


def test_predict_refuses_what_belongs_to_the_other_kind(
    refusal, classifier_run, finished_run, photographs, shapes, tmp_path
):
    file = next((photographs / "val" / "n1").iterdir())
    out = ("--out", tmp_path / "out")
    assert "--threshold" in refusal("predict", classifier_run, file, *out, "--threshold", 0)
    assert "--top" in refusal("predict", finished_run, file, *out, "--top", 3)
    assert "--top" in refusal("predict", classifier_run, file, *out, "--top", 0)
    assert "gone.jpg" in refusal("predict", classifier_run, tmp_path / "gone.jpg", *out)
    assert not (tmp_path / "out").exists()


# --- attend ---


def test_attend_draws_a_picture_for_each_point(run, classifier_run, finished_run, photographs, tmp_path):
    file = next((photographs / "val" / "n1").iterdir())
    for number, model in enumerate((classifier_run, finished_run)):
        out = tmp_path / str(number)
        status, printed, err = run("attend", model, file, "--at", 10, 20, 99, 79, "--out", out)
        assert (status, printed) == (0, ""), err
        names = [f"{file.stem}-x10-y20.png", f"{file.stem}-x99-y79.png"]
        assert sorted(picture.name for picture in out.iterdir()) == names
        assert all(str(out / name) in err for name in names)
        assert "random" not in err


def test_attend_takes_a_named_model_a_block_and_a_size(run, photographs, tmp_path):
    file = next((photographs / "val" / "n1").iterdir())
    flags = ("--block", "layer3.inserted", "--input-size", 64)
    status, _, err = run("attend", "resnet50_nl_c4", file, "--at", 1, 2, "--out", tmp_path, *flags)
    assert status == 0, err
    assert "its weights are random" in err
    assert (tmp_path / f"{file.stem}-x1-y2.png").is_file()


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ("--at 100 3", "100 3"),
        ("--at 3 80", "which is 100 wide and 80 high"),
        ("--at 3 3 -1 3", "--at"),
        ("--at 3", "--at"),
        ("--at 3 4 5", "--at"),
        ("--at", "--at"),
        ("--at 10.5 5", "--at"),
        ("--at ten 5", "ten"),
        ("", "--at"),
        ("--at 3 4 --block layer1.0", "layer4.0"),
        ("--at 3 4 --input-size 0", "--input-size"),
        ("--at 3 4 --input-size 8", "at least 32x32 pixels"),
    ],
)
def test_attention_that_cannot_be_shown(refusal, classifier_run, photographs, tmp_path, flags, named):
    file = next((photographs / "val" / "n1").iterdir())
    assert named in refusal("attend", classifier_run, file, "--out", tmp_path / "out", *flags.split())
    assert not (tmp_path / "out").exists()


def test_attend_needs_a_model_with_attention_and_a_photograph(refusal, classifier_run, photographs, tmp_path):
    file = next((photographs / "val" / "n1").iterdir())
    rest = ("--at", 1, 1, "--out", tmp_path / "out")
    convolutions = save_classifier(tmp_path / "resnet.ckpt", "resnet50")
    assert "no attention block" in refusal("attend", convolutions, file, *rest)
    assert "gone.jpg" in refusal("attend", classifier_run, tmp_path / "gone.jpg", *rest)
    assert "did you mean botnet50" in refusal("attend", "botnt50", file, *rest)
    assert not (tmp_path / "out").exists()
