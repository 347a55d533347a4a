"""From a run, in any form of image, to results that are those of the command line and of other tools."""

import json
import sys

import numpy as np
import pytest
import supervision
import torch
from hotcoco import COCO
from PIL import Image
from pycocotools import mask as coco_mask

import botvision
from botvision.data import Category, read_image
from botvision.errors import UserError
from botvision.models import create_model
from botvision.tasks.classification import Classifier, ClassifierConfig
from botvision.tasks.classification.checkpoint import describe as describe_classifier
from botvision.tasks.detection.checkpoint import describe as describe_detector
from botvision.tasks.detection.keypoint_rcnn import KeypointRCNN

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own


def saved(path, description, model):
    torch.save({"botvision": description, "state_dict": dict(model.state_dict()), "step": 1}, path)
    return path


@pytest.fixture(scope="module")
def detector(lively_model, tmp_path_factory):
    categories = [Category(number, f"kind {number}") for number in (1, 2, 4, 7, 8, 11)]
    path = tmp_path_factory.mktemp("detector") / "lively.ckpt"
    return saved(path, describe_detector(lively_model.config, categories), lively_model)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    torch.manual_seed(0)
    config = ClassifierConfig(model="botnet50", depths=(1, 1, 1, 1), width=8, input_size=64)
    path = tmp_path_factory.mktemp("classifier") / "tiny.ckpt"
    return saved(path, describe_classifier(config, ["n1", "n2", "n3"], ["cat", "dog", "bee"]), Classifier(config, 3))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(0)
    for name, size in (("a", (40, 60, 3)), ("b", (64, 64, 3)), ("c", (90, 31, 3))):
        Image.fromarray(random.integers(0, 256, size, dtype=np.uint8)).save(folder / f"{name}.png")
    return sorted(folder.iterdir())


def test_every_form_of_image_finds_the_same_as_the_command_line(detector, files, run, tmp_path):
    assert run("predict", detector, *files, "--out", tmp_path, "--threshold", "0.1")[0] == 0
    written = json.loads((tmp_path / "predictions.json").read_text())
    assert {row["image_id"] for row in written} == {1, 2, 3}
    predictor = botvision.Predictor(detector, device="cpu")
    assert list(predictor.class_names) == [f"kind {number}" for number in (1, 2, 4, 7, 8, 11)]
    arrays = [np.array(Image.open(file)) for file in files]
    batches = (files, arrays, [Image.open(file) for file in files], [read_image(file) for file in files])
    for batch in batches:
        found = predictor(batch, threshold=0.1)
        rows = [row for number, own in enumerate(found, start=1) for row in own.to_coco(number)]
        names = {number: str(file) for number, file in enumerate(files, start=1)}
        assert [{**row, "file_name": names[row["image_id"]]} for row in rows] == written
        assert [len(own) for own in found] == [sum(row["image_id"] == n for row in written) for n in names]
    one = predictor(files[1], threshold=0.1)
    assert one.to_coco(2) == found[1].to_coco(2)
    assert np.array_equal(one.draw(), Image.open(tmp_path / "b.png"))


def test_a_batch_gives_what_its_images_give_alone(detector, classifier, files):
    for checkpoint, options in ((detector, {"threshold": 0.05}), (classifier, {"top": 2})):
        predictor = botvision.Predictor(checkpoint, device="cpu")
        together = predictor(files, batch_size=2, **options)
        for file, own in zip(files, together, strict=True):
            alone = predictor(file, **options)
            assert alone.names == own.names
            torch.testing.assert_close(alone.scores, own.scores, rtol=1e-4, atol=1e-5)


def test_detections_are_consistent_with_each_other(detector, files):
    found = botvision.Predictor(detector, device="cpu")(files[0], threshold=0.1)
    rows = found.to_coco()
    assert found.masks.shape == (len(found), 40, 60)
    for row, box, mask, label, score in zip(rows, found.boxes, found.masks, found.class_ids, found.scores, strict=True):
        assert (coco_mask.decode(row["segmentation"]) == mask.numpy()).all()
        x, y, width, height = row["bbox"]
        torch.testing.assert_close(box, torch.tensor([x, y, x + width, y + height]), rtol=0, atol=2e-3)
        assert row["category_name"] == found.categories[label].name
        assert row["score"] == pytest.approx(score.item(), abs=1e-6)
    strong = found.above(0.95)
    assert 0 < len(strong) == sum(row["score"] >= 0.95 for row in rows) < len(found)
    assert str(found).startswith(f"Detections(60 x 40: {found.names[0]} ")


def test_other_tools_read_the_results(detector, files, tmp_path):
    found = botvision.Predictor(detector, device="cpu")(files[0], threshold=0.1)
    theirs = found.to_supervision()
    assert isinstance(theirs, supervision.Detections)
    assert theirs.xyxy.tolist() == found.boxes.tolist()
    assert theirs.data["class_name"].tolist() == found.names
    assert len(theirs[theirs.confidence >= 0.95]) == len(found.above(0.95))
    areas = [coco_mask.area(row["segmentation"]) for row in found.to_coco()]
    assert [int(mask.sum()) for mask in theirs.mask] == areas
    categories = [{"id": category.id, "name": category.name} for category in found.categories]
    images = [{"id": 7, "file_name": "a.png", "height": 40, "width": 60}]
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps({"images": images, "categories": categories, "annotations": []}))
    (tmp_path / "results.json").write_text(json.dumps(found.to_coco(7)))
    assert len(COCO(str(truth)).load_res(str(tmp_path / "results.json")).get_ann_ids()) == len(found)


def test_keypoints_come_along(tiny, tmp_path, files):
    torch.manual_seed(0)
    config = tiny.replace(detector="keypoint_rcnn")
    categories = [Category(1, "person", ("nose", "tail"), ((1, 2),))]
    model = KeypointRCNN(config, 1, 2)
    path = saved(tmp_path / "k.ckpt", describe_detector(config, categories), model)
    found = botvision.Predictor(path, device="cpu")(files[0], threshold=0.0)
    assert found.masks is None and found.to_supervision().mask is None
    assert found.keypoints.shape == (len(found), 2, 3) == found.to_supervision().data["keypoints"].shape
    x, y, score = found.keypoints[0, 0].tolist()
    assert found.to_coco()[0]["keypoints"][:3] == pytest.approx([x - 0.5, y - 0.5, score], abs=1e-3)


def test_a_classifier_gives_its_probabilities(classifier, files, run, tmp_path):
    predictor = botvision.Predictor(classifier, device="cpu")
    found = predictor(files[0], top=9)
    assert found.scores.sum().item() == pytest.approx(1)
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    assert sorted(found.names) == ["bee", "cat", "dog"] == sorted(predictor.class_names)
    theirs = found.to_supervision()
    assert isinstance(theirs, supervision.Classifications)
    assert theirs.get_top_k(1)[0].tolist() == found.class_ids[:1].tolist()
    run("predict", classifier, files[0], "--out", tmp_path, "--top", 3)
    (written,) = json.loads((tmp_path / "predictions.json").read_text())
    assert written["classes"] == found.to_dicts()
    assert np.array_equal(found.draw(), Image.open(tmp_path / "a.png"))


def test_nothing_found_is_a_result_too(detector, files):
    nothing = botvision.Predictor(detector, device="cpu")(files[0], threshold=1.0)
    assert (len(nothing), nothing.to_coco(), nothing.names) == (0, [], [])
    assert nothing.masks.shape == (0, 40, 60)
    assert len(nothing.to_supervision()) == 0
    assert nothing.draw().size == (60 * 11, 40 * 11)
    assert botvision.Predictor(detector, device="cpu")([]) == []


def test_what_is_wrong_is_said(detector, classifier, files, monkeypatch, tmp_path):
    found = botvision.Predictor(detector, device="cpu")(files[0])
    monkeypatch.setitem(sys.modules, "supervision", None)  # as if it were not installed
    with pytest.raises(UserError, match=r"pip install 'botvision\[supervision\]'"):
        found.to_supervision()
    with pytest.raises(UserError, match=r"absent\.png: no such image"):
        botvision.Predictor(detector, device="cpu")([files[0], tmp_path / "absent.png"])
    with pytest.raises(TypeError, match="threshold"):
        botvision.Predictor(classifier, device="cpu")(files[0], threshold=0.5)
    with pytest.raises(UserError, match="threshold"):
        botvision.Predictor(detector, device="cpu")(files[0], threshold=50)
    with pytest.raises(UserError, match="top"):
        botvision.Predictor(classifier, device="cpu")(files[0], top=0)
    with pytest.raises(UserError, match="absent"):
        botvision.Predictor(tmp_path / "absent")
    with pytest.raises(UserError, match=f"{tmp_path}: is a folder"):
        botvision.Predictor(detector, device="cpu")(tmp_path)
    with pytest.raises(UserError, match="device"):
        botvision.Predictor(detector, device="tpu")


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        *(("batch_size", value, "whole number, at least 1") for value in (-1, 0, 2.5, "2")),
        *(("threshold", value, "number from 0 to 1") for value in ("a", "0.5", [0.5], float("nan"), -0.1, 1.5)),
        *(("top", value, "whole number, at least 1") for value in ("a", 2.5, 0, None)),
    ],
)
def test_an_argument_that_cannot_be_is_named_in_one_line(detector, classifier, files, name, value, problem):
    predictor = botvision.Predictor(classifier if name == "top" else detector, device="cpu")
    with pytest.raises(UserError, match=f"^{name}: should be a {problem}, got ") as error:
        predictor(files[0], **{name: value})
    assert "\n" not in str(error.value)
    if name == "threshold":
        with pytest.raises(UserError, match=r"^threshold: "):
            predictor(files[0], threshold=0).above(value)


def test_numbers_of_numpys_are_numbers(detector, classifier, files):
    found = botvision.Predictor(detector, device="cpu")
    assert len(found(files[:1], batch_size=np.int64(2), threshold=np.float32(0.5))[0]) == len(found(files[0]))
    assert len(found(files[0]).above(torch.tensor(0.5))) == len(found(files[0]))
    assert len(botvision.Predictor(classifier, device="cpu")(files[0], top=np.int32(2)).names) == 2


def test_load_opens_runs_checkpoints_and_saved_networks(finished_run, detector, tmp_path):
    run, last = (botvision.load(source) for source in (finished_run, finished_run / "checkpoints" / "last.ckpt"))
    assert not run.training and type(run) is type(last)
    stored = torch.load(detector, weights_only=True)["state_dict"]
    assert all(torch.equal(value, stored[name]) for name, value in botvision.load(str(detector)).state_dict().items())
    network = create_model("botnet50", depths=(1, 1, 1, 1), width=8)
    botvision.save(network, tmp_path / "network.safetensors")
    assert botvision.load(tmp_path / "network.safetensors").config == network.config
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    for path in (tmp_path / "weights.pth", tmp_path / "absent.ckpt", tmp_path):
        with pytest.raises(UserError, match=str(path)):
            botvision.load(path)


@pytest.mark.parametrize(
    ("name", "named"),
    [("network.safetensors", "botvision.load"), ("model.safetensors", "botvision.load"), ("model.onnx", "export")],
)
def test_what_cannot_predict_is_named_with_what_it_is_for(tmp_path, name, named):
    botvision.save(create_model("botnet50", depths=(1, 1, 1, 1), width=8), tmp_path / name)
    with pytest.raises(UserError, match=f"{name} .*{named}"):
        botvision.Predictor(tmp_path / name)
