"""A model goes to the hub's format and comes back, without network; its card says what its run does."""

import csv
import json
import shutil
import sys

import huggingface_hub
import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from PIL import Image
from safetensors import safe_open

import botvision
from botvision.checkpoint import checkpoint_of
from botvision.errors import UserError
from botvision.models import read_state_dict
from botvision.tasks.hub import HubModel
from botvision.tasks.predictor import Predictor


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    path = tmp_path_factory.mktemp("photograph") / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def folder(finished_run, tmp_path_factory):
    """The finished run as a model of the hub."""
    folder = tmp_path_factory.mktemp("hub") / "shapes"
    Predictor(finished_run, device="cpu").save_pretrained(folder, license="cc-by-4.0")
    return folder


def test_a_model_comes_back_as_it_was(folder, finished_run, photograph, run, tmp_path):
    """By our own reader, by the hub's mixin, and on the command line."""
    assert {path.name for path in folder.iterdir()} == {"README.md", "config.json", "model.safetensors"}
    original = Predictor(finished_run, device="cpu")
    expected = original(photograph, threshold=0.0).to_coco()
    assert expected
    for source in (folder, folder / "model.safetensors"):
        assert Predictor(source, device="cpu")(photograph, threshold=0.0).to_coco() == expected
    assert Predictor.from_pretrained(folder, device="cpu")(photograph, threshold=0.0).to_coco() == expected
    loaded = botvision.load(folder / "model.safetensors").state_dict()
    theirs = HubModel.from_pretrained(folder).model
    for name, value in original.model.state_dict().items():
        assert torch.equal(value, loaded[name]) and torch.equal(value, theirs.state_dict()[name])
    assert run("predict", folder, photograph, "--out", tmp_path, "--threshold", 0)[0] == 0
    written = json.loads((tmp_path / "predictions.json").read_text())
    assert [row["score"] for row in written] == [row["score"] for row in expected]


def test_its_files_are_those_of_the_hub(folder):
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        assert all(name.startswith("model.") for name in file.keys())  # noqa: SIM118 (no dictionary)
    described = json.loads((folder / "config.json").read_text())
    assert (described["task"], described["version"]) == ("detection", botvision.__version__)
    state = read_state_dict(folder / "model.safetensors")  # as initial weights, without the prefix
    assert "backbone.body.conv1.weight" in state


def test_a_model_of_the_hub_starts_a_training(folder, tiny_flags, run, tmp_path):
    status, _, err = run(
        "train", "small/botnet50", *tiny_flags, "--no-head-norm", "--weights", folder, "--out", tmp_path / "run"
    )
    assert status == 0
    assert "left at random" not in err


def test_the_card_says_what_the_run_does(folder, finished_run):
    card = ModelCard.load(folder / "README.md")
    assert card.data.license == "cc-by-4.0"
    assert (card.data.library_name, card.data.pipeline_tag) == ("botvision", "image-segmentation")
    config = yaml.safe_load((finished_run / "config.yaml").read_text())
    for part in ("circle, square", "`small/botnet50`", "Apache-2.0", "## Limits", 'Predictor("shapes")'):
        assert part in card.text
    (settings,) = [block.split("```")[0] for block in card.text.split("```yaml\n")[1:]]
    shown = yaml.safe_load(settings)
    assert shown["model"] == config["model"] and shown["optimizer"] == config["optimizer"]
    assert shown["data"]["data"] == "data"  # and not the way there on this machine
    assert str(finished_run.parent) not in card.text
    best = torch.load(checkpoint_of(finished_run), weights_only=True)["step"]
    with (finished_run / "evaluations.csv").open() as file:
        (row,) = [row for row in csv.DictReader(file) if int(row["step"]) == best]
    assert f"| val_mask_ap50 | {float(row['val_mask_ap50']):.4f} |" in card.text


def test_the_scores_of_a_card_are_those_of_the_last_evaluation(finished_run, shapes, run, tmp_path):
    copied = shutil.copytree(finished_run, tmp_path / "run")
    _, printed, _ = run("eval", copied, "--data", shapes, "--split", "train", "--json")
    predictor = Predictor(copied, device="cpu")
    predictor.save_pretrained(tmp_path / "after")
    card = (tmp_path / "after" / "README.md").read_text()
    assert f"| box ar100 | {json.loads(printed)['box']['ar100']:.4f} |" in card
    assert "Measured by `botvision eval after --data data --split train`, on 8 images." in card
    assert "licence of the weights was not stated" in card
    assert run("eval", copied, "--data", shapes, "--split", "train", "--images", 3)[0] == 0
    predictor.save_pretrained(tmp_path / "few")
    card = (tmp_path / "few" / "README.md").read_text()
    assert "Measured by `botvision eval few --data data --split train --images 3`, on 3 images." in card
    (copied / "checkpoints").rename(tmp_path / "alone")
    file = next(path for path in (tmp_path / "alone").iterdir() if path.name == predictor.trained.path.name)
    Predictor(file, device="cpu").save_pretrained(tmp_path / "alone" / "hub")
    assert "without its run" in (tmp_path / "alone" / "hub" / "README.md").read_text()


def test_what_is_pushed_is_what_is_saved(finished_run, folder, monkeypatch, tmp_path):
    """The hub's own upload is replaced: it needs the network."""
    made = []

    class Api:
        def __init__(self, **options):
            pass

        def create_repo(self, repo_id, **options):
            made.append((repo_id, options["private"]))
            return huggingface_hub.RepoUrl(f"https://hub.test/{repo_id}", endpoint="https://hub.test")

        def upload_folder(self, folder_path, **options):
            shutil.copytree(folder_path, tmp_path / "pushed")
            return "https://hub.test/commit"

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    url = Predictor(finished_run, device="cpu").push_to_hub("somebody/shapes", private=True, license="cc-by-4.0")
    assert (url, made) == ("https://hub.test/commit", [("somebody/shapes", True)])
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "pushed" / name).read_bytes() == (folder / name).read_bytes()
    assert 'Predictor("hf-hub:somebody/shapes")' in (tmp_path / "pushed" / "README.md").read_text()


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """A cache of the hub, which is not asked itself."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_a_name_of_the_hub_is_taken_from_its_cache(offline, folder, finished_run, photograph):
    cached = offline / "models--somebody--shapes"
    shutil.copytree(folder, cached / "snapshots" / ("0" * 40))
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0" * 40)
    expected = Predictor(finished_run, device="cpu")(photograph, threshold=0.0).to_coco()
    options = {"cache_dir": offline, "local_files_only": True}
    found = Predictor.from_pretrained("somebody/shapes", device="cpu", **options)
    assert found(photograph, threshold=0.0).to_coco() == expected


def test_a_name_that_cannot_be_had_is_one_line(offline, refusal, photograph, tmp_path):
    words = ("predict", "hf-hub:nobody/nothing", photograph, "--out", tmp_path / "out")
    assert "nobody/nothing" in refusal(*words)
    with pytest.raises(UserError, match="no name"):
        Predictor.from_pretrained("no name/at/all")


def test_a_model_of_another_library_is_refused(folder, refusal, photograph, tmp_path):
    other = shutil.copytree(folder, tmp_path / "other")
    for content in ('{"architecture": "resnet50"}', "[]", "not json"):
        (other / "config.json").write_text(content)
        assert "model.safetensors" in refusal("predict", other, photograph, "--out", tmp_path / "out")


def test_without_the_package_its_name_is_said(finished_run, monkeypatch, tmp_path):
    predictor = Predictor(finished_run, device="cpu")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "botvision.tasks.hub")
    for action in (
        lambda: predictor.save_pretrained(tmp_path / "out"),
        lambda: predictor.push_to_hub("somebody/shapes"),
        lambda: Predictor.from_pretrained("somebody/shapes"),
    ):
        with pytest.raises(UserError, match=r"pip install 'botvision\[hub\]'"):
            action()
    assert not (tmp_path / "out").exists()
