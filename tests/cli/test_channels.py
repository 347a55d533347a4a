"""Images of five channels with 16 bits, from the check to a prediction, for a detector and a classifier."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import yaml
from PIL import Image

import botvision
from botvision.checkpoint import read_checkpoint
from botvision.serving.answers import Answers

CHANNELS = 5
SCALE = np.array([200, 180, 160])
CLASSES = ("dark", "light", "mixed")
CLASSIFIER = "--depths 1 1 1 1 --width 8 --input-size 32 --batch-size 4 --warmup-epochs 0 --workers 0 --device cpu"
CLASSIFIER += " --precision float32 --log-every 1 --weights none"


def five_channels(rgb: np.ndarray) -> np.ndarray:
    """Colours in other units, and two bands that follow from them, uint16 (H, W, 5)."""
    own = rgb.astype(np.uint16) * SCALE.astype(np.uint16)
    return np.dstack([own, 65535 - own[:, :, :1], own[:, :, 1:2] // 2 + 7])


@pytest.fixture(scope="module")
def objects(shapes, tmp_path_factory) -> Path:
    """The generated data set as TIFF files of five channels."""
    folder = shutil.copytree(shapes, tmp_path_factory.mktemp("five") / "objects")
    for file in folder.glob("annotations/*.json"):
        content = json.loads(file.read_text())
        for image in content["images"]:
            image["file_name"] = str(Path(image["file_name"]).with_suffix(".tif"))
        file.write_text(json.dumps(content))
    for file in folder.glob("*2017/*.jpg"):
        pixels = five_channels(np.asarray(Image.open(file)))
        options = {"photometric": "minisblack", "planarconfig": "contig", "compression": "zlib"}
        tifffile.imwrite(file.with_suffix(".tif"), pixels, **options)
        file.unlink()
    return folder


@pytest.fixture(scope="module")
def classes(tmp_path_factory) -> Path:
    """Class folders of arrays of five channels."""
    folder, generator = tmp_path_factory.mktemp("five") / "classes", np.random.default_rng(0)
    for split, images in (("train", 4), ("val", 2)):
        for place, name in enumerate(CLASSES):
            (folder / split / name).mkdir(parents=True)
            for number in range(images):
                rgb = generator.integers(60 * place, 60 * place + 80, (40, 48, 3))
                np.save(folder / split / name / f"{number}.npy", five_channels(rgb))
    return folder


def expected_statistics(files: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    arrays = [np.load(file) if file.suffix == ".npy" else tifffile.imread(file) for file in files]
    pixels = np.concatenate([array.reshape(-1, CHANNELS) for array in arrays]).astype(np.float64)
    return pixels.mean(axis=0), pixels.std(axis=0)


def check_run(folder: Path, mean: np.ndarray, std: np.ndarray) -> None:
    """The configuration and the checkpoint say how images are read and normalised."""
    settings = yaml.safe_load((folder / "config.yaml").read_text())["model"]
    for model in (settings, read_checkpoint(folder / "checkpoints" / "last.ckpt")["botvision"]["model"]):
        assert model["in_channels"] == CHANNELS
        np.testing.assert_allclose(model["pixel_mean"], mean, rtol=1e-12)
        np.testing.assert_allclose(model["pixel_std"], std, rtol=1e-9)


def seen_by(predictor: botvision.Predictor) -> list[torch.Tensor]:
    """What its network gets from now on."""
    seen: list[torch.Tensor] = []
    predictor.folded.model.trunk.conv1.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    return seen


def test_a_detector_of_five_channels(run, refusal, objects, tiny_flags, tmp_path):
    data = shutil.copytree(objects, tmp_path / "data")
    words = ["train", "small/botnet50", *tiny_flags, "--data", data, "--out", tmp_path / "run", "--copy-paste", 0.5]
    line = refusal(*words)
    assert "has 5 channels" in line
    assert f"botvision data check {data}" in line
    assert not (tmp_path / "run").exists()

    status, out, err = run("data", "check", data, "--json", "--out", tmp_path / "check")
    assert status == 0, err
    mean, std = expected_statistics(sorted(data.glob("train2017/*.tif")))
    kept = json.loads((data / "pixels.json").read_text())
    np.testing.assert_allclose(kept["mean"], mean, rtol=1e-12)
    np.testing.assert_allclose(kept["std"], std, rtol=1e-9)
    assert len(list((tmp_path / "check" / "pictures").iterdir())) == 12

    assert run(*words)[0] == 0
    check_run(tmp_path / "run", mean, std)
    (data / "pixels.json").unlink()  # the run keeps what it needs
    status, _, err = run("train", "--resume", tmp_path / "run", "--steps", 3)
    assert status == 0, err
    check_run(tmp_path / "run", mean, std)
    status, out, err = run("eval", tmp_path / "run", "--data", data, "--json", "--pictures", 1, "--out", tmp_path / "e")
    assert status == 0, err
    assert json.loads(out)["box"].keys() >= {"ap", "ap50"}

    files = sorted(data.glob("val2017/*.tif"))
    status, out, err = run("predict", tmp_path / "run", *files, "--out", tmp_path / "found", "--json", "--threshold", 0)
    assert status == 0, err
    predictor = botvision.Predictor(tmp_path / "run", device="cpu")
    seen = seen_by(predictor)
    found = predictor(tifffile.imread(files[0]), threshold=0)
    by_file = [row for row in json.loads(out) if row["image_id"] == 1]
    assert [row["score"] for row in found.to_coco()] == pytest.approx([row["score"] for row in by_file], abs=1e-5)
    normalised = (tifffile.imread(files[0]) - mean) / std  # its longer side is that of the input already
    height, width, _ = normalised.shape
    np.testing.assert_allclose(seen[0][0, :, :height, :width].permute(1, 2, 0).numpy(), normalised, atol=1e-4)
    assert seen[0][0, :, height:].abs().sum() + seen[0][0, :, :, width:].abs().sum() == 0  # the padding
    assert Image.open(tmp_path / "found" / f"{files[0].stem}.png").mode == "RGB"
    point = (tmp_path / "run", files[0], "--at", 20, 20, "--out", tmp_path / "attention")
    assert run("attend", *point)[0] == 0
    assert "has 3 channels and should have 5" in refusal(
        "predict", tmp_path / "run", save_photograph(tmp_path / "rgb.png"), "--out", tmp_path / "no"
    ).replace("no image can be read: ", "")


def save_photograph(path: Path) -> Path:
    Image.new("RGB", (64, 64)).save(path)
    return path


def test_a_classifier_of_five_channels(run, classes, tmp_path, caplog):
    data = shutil.copytree(classes, tmp_path / "data")
    assert run("data", "check", data, "--json")[0] == 0
    mean, std = expected_statistics(sorted(data.glob("train/*/*.npy")))
    words = ["train", "imagenet/botnet50", "--data", data, *CLASSIFIER.split(), "--out", tmp_path / "run"]
    words += ["--randaugment", 2, 10, "--mixup", 0.2]
    status, _, err = run(*words, "--steps", 2)
    assert status == 0, err
    assert any("randaugment is left out" in record.getMessage() for record in caplog.records)
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["data"]["randaugment"] is None
    check_run(tmp_path / "run", mean, std)
    assert run(*words, "--steps", 2)[0] == 0  # the same words are the same run
    status, _, err = run("train", "--resume", tmp_path / "run", "--steps", 3)
    assert status == 0, err
    assert run("eval", tmp_path / "run", "--data", data, "--json")[0] == 0

    files = sorted(data.glob("val/*/*.npy"))
    status, out, err = run("predict", tmp_path / "run", data / "val", "--out", tmp_path / "found", "--json")
    assert status == 0, err
    predictor = botvision.Predictor(tmp_path / "run", device="cpu")
    by_file, by_array = json.loads(out)[0], predictor(np.load(files[0]))
    assert by_file["classes"][0]["probability"] == pytest.approx(float(by_array.scores[0]), abs=1e-6)
    assert by_array.draw().mode == "RGB"
    on_page = Answers(predictor).predict(files[0].read_bytes(), files[0].name)  # an upload to botvision serve
    assert on_page["classes"][0]["probability"] == pytest.approx(float(by_array.scores[0]), abs=1e-6)
    assert (tmp_path / "found" / "0.png").is_file()


def test_mixed_channels_are_refused_by_both_names_and_nothing_is_kept(run, classes, tmp_path):
    data = shutil.copytree(classes, tmp_path / "data")
    file = data / "val" / "mixed" / "1.npy"
    np.save(file, np.load(file)[:, :, :4])
    status, out, _ = run("data", "check", data, "--json")
    (refused,) = [kind for kind in json.loads(out)["findings"] if kind["effect"] == "refused"]
    problem = refused["first"][0]["problem"]
    assert status == 2
    assert f"{file} has 4 channels, and {data}" in problem
    assert "has 5 channels" in problem
    assert not (data / "pixels.json").exists()


def test_pictures_are_read_as_stored_where_this_is_asked_for(run, refusal, shapes, tiny_flags, tmp_path):
    """JPEG files stay pictures; with --in-channels 3 the check measures them, and training follows."""
    data = shutil.copytree(shapes, tmp_path / "data")
    words = ["train", "small/botnet50", *tiny_flags, "--data", data]
    assert run("data", "check", data, "--json")[0] == 0
    assert not (data / "pixels.json").exists()
    assert run(*words, "--in-channels", 3, "--steps", 1, "--out", tmp_path / "rgb")[0] == 0
    assert yaml.safe_load((tmp_path / "rgb" / "config.yaml").read_text())["model"]["in_channels"] is None
    assert "--in-channels: needs --pixel-mean and --pixel-std" in refusal(*words, "--in-channels", 4)
    assert run("data", "check", data, "--json", "--in-channels", 3)[0] == 0
    assert run(*words, "--steps", 1, "--out", tmp_path / "stored")[0] == 0
    assert yaml.safe_load((tmp_path / "stored" / "config.yaml").read_text())["model"]["in_channels"] == 3
    assert "should be 3, as botvision data check found" in refusal(*words, "--in-channels", 4)
    # The run that began before goes on as it was.
    status, _, err = run("train", "--resume", tmp_path / "rgb", "--steps", 2)
    assert status == 0, err


def test_other_means_for_rgb_images(run, shapes, tiny_flags, tmp_path):
    words = ["train", "small/botnet50", *tiny_flags, "--data", shapes, "--steps", 1, "--out", tmp_path / "run"]
    assert run(*words, "--pixel-mean", 100, 110, 120, "--pixel-std", 50, 60, 70)[0] == 0
    model = botvision.load(tmp_path / "run")
    images = torch.full((1, 3, 2, 2), 160, dtype=torch.uint8)
    expected = torch.tensor([60 / 50, 50 / 60, 40 / 70])
    assert torch.allclose(model.normalised(images)[0, :, 0, 0], expected)
