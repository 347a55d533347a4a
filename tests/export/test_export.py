"""Classifiers and backbones that botvision export writes, beside the models that they were made of; and refusals."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import botvision
from botvision.errors import UserError
from botvision.export import export_model
from botvision.export.sources import exportable, photographs
from botvision.tasks.classification import Classifier, ClassifierConfig
from botvision.tasks.classification.checkpoint import describe

onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")
pytest.importorskip("onnxscript", reason="needs the extra onnx")
SUFFIX = {"onnx": ".onnx", "torch": ".pt2"}


@pytest.mark.parametrize("format_name", ["onnx", "torch"])
def test_a_classifier_says_the_same_without_botvision(
    format_name, classifier, pictures, run, run_example, scored, tmp_path
):
    file = tmp_path / f"made{SUFFIX[format_name]}"
    words = ("export", classifier, "--format", format_name, "--out", file, "--images", pictures[0].parent, "--json")
    status, out, err = run(*words)
    assert status == 0, err
    done = json.loads(out)
    assert done["images"] == len(pictures)
    assert done["size"] == file.stat().st_size
    predictor = botvision.Predictor(classifier, device="cpu")
    for picture in pictures if format_name == "onnx" else pictures[1:2]:
        found, rows = predictor(picture), scored(run_example(file, picture))
        assert [name for _, name in rows] == found.names
        assert [score for score, _ in rows] == pytest.approx(
            found.scores.tolist(), abs=6e-4
        )  # three digits are printed
    mode = {"onnx": "RGBA", "torch": "I;16"}[format_name]  # which Pillow's own conversion would change
    Image.new(mode, (80, 70)).save(tmp_path / "picture.png")
    *_, line = run_example(file, tmp_path / "picture.png", status=1)  # after what PyTorch warns of
    assert "picture.png" in line and "RGB" in line


@pytest.mark.parametrize("script", ["run_onnx.py", "run_torch_export.py"])
@pytest.mark.parametrize("given", [[], ["gone.model", "gone.jpg"]])
def test_an_example_without_its_files_says_how_it_is_called(monkeypatch, script, given):
    path = Path(__file__).parents[2] / "examples" / script
    monkeypatch.setattr(sys, "argv", [str(path), *given])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(path))
    assert all(word in caught.value.code for word in (script, *given))


@pytest.mark.pools_open_sizes
def test_maps_of_a_backbone_are_those_of_pytorch_at_any_size_and_batch(session, run, run_example, pictures, tmp_path):
    torch.manual_seed(0)
    config = {"depths": (1, 1, 1, 1), "width": 8, "input_size": 64}
    model = botvision.create_model("botnet50", features_only=True, out_indices=(0, 2, 4), **config).eval()
    botvision.save(model, tmp_path / "backbone.safetensors")
    status, _, err = run("export", tmp_path / "backbone.safetensors", "--format", "onnx")
    assert status == 0, err
    program = session(tmp_path / "backbone.onnx")
    for shape in ((1, 3, 33, 200), (3, 3, 160, 97)):
        images = torch.randn(shape)
        with torch.no_grad():
            expected = dict(zip(("stem", "c3", "c5"), model(images), strict=True))
        found = program(images=images.numpy())
        assert found.keys() == expected.keys()
        for name, maps in expected.items():
            np.testing.assert_allclose(found[name], maps, rtol=1e-4, atol=1e-4)
    inputs = onnxruntime.InferenceSession(str(tmp_path / "backbone.onnx")).get_inputs()
    assert {value.name: value.shape for value in inputs} == {"images": ["batch", 3, "height", "width"]}
    assert run_example(tmp_path / "backbone.onnx", pictures[0])[-1] == "c5 (1, 256, 2, 2)"


def test_images_as_stored_are_compared_as_they_are(run, tmp_path):
    """Five channels of 16 bits: the export takes them in the unit of the files, as the model does."""
    torch.manual_seed(0)
    statistics = {"in_channels": 5, "pixel_mean": (900.0,) * 5, "pixel_std": (300.0,) * 5}
    config = ClassifierConfig(model="botnet50", depths=(1, 1, 1, 1), width=8, input_size=64, **statistics)
    content = {"botvision": describe(config, ["n1", "n2"], ["ant", "bee"]), "step": 1}
    torch.save({**content, "state_dict": Classifier(config, 2).state_dict()}, tmp_path / "made.ckpt")
    image = np.random.default_rng(0).integers(0, 2000, (70, 80, 5), dtype=np.uint16)
    np.save(tmp_path / "image.npy", image)
    words = (tmp_path / "made.ckpt", "--format", "torch", "--images", tmp_path / "image.npy", "--json")
    status, out, err = run("export", *words)
    assert status == 0, err
    assert json.loads(out)["input_shape"] == [1, 5, 64, 64]
    program = torch.export.load(tmp_path / "made.pt2").module()
    pixels = torch.from_numpy(image[:64, :64].astype(np.float32)).permute(2, 0, 1)[None]
    expected = exportable(tmp_path / "made.ckpt").eager(pixels)["logits"]
    torch.testing.assert_close(program(pixels)["logits"], expected, rtol=1e-4, atol=1e-4)


def test_a_network_of_other_channels_says_how_many(tmp_path):
    model = botvision.create_model("botnet50", depths=(1, 1, 1, 1), width=8, input_size=64, in_channels=5)
    botvision.save(model, tmp_path / "five.safetensors")
    about = exportable(tmp_path / "five.safetensors").metadata
    assert (about["in_channels"], len(about["mean"]), len(about["std"])) == (5, 5, 5)


def test_photographs_are_spread_and_unreadable_ones_left_out(tmp_path, caplog):
    files = [tmp_path / f"{number}.png" for number in range(7)]
    for file in files:
        Image.new("RGB", (8, 8)).save(file)
    assert [Path(name).stem for name, _ in photographs(files, None, limit=3)] == ["0", "2", "4"]
    assert len(list(photographs(files, None, limit=9))) == 7
    files[2].write_text("none")
    assert [Path(name).stem for name, _ in photographs(files, None, limit=3)] == ["0", "4"]
    assert "2.png" in caplog.text
    with pytest.raises(UserError, match=r"2\.png"):
        list(photographs(files[2:3], None))


def test_a_file_that_disagrees_is_not_kept(classifier, tmp_path):
    source = exportable(classifier)
    source.eager = lambda *inputs: {"logits": source.program(*inputs)["logits"] + 1e-3}
    images = [("noise", torch.randint(0, 256, (3, 80, 90), dtype=torch.uint8))]
    with pytest.raises(UserError, match=r"logits differ by 0\.001"):
        export_model(source, "torch", tmp_path / "made.pt2", images)
    assert not list(tmp_path.iterdir())


def test_images_that_rounding_decides_are_not_compared(classifier, tmp_path, caplog):
    source = exportable(classifier)
    source.eager = lambda *inputs: {"logits": source.program(*inputs)["logits"] + 1e-3}
    source.is_undecided = lambda *inputs: True
    images = [("noise", torch.randint(0, 256, (3, 80, 90), dtype=torch.uint8))]
    with pytest.raises(UserError, match="nothing to compare"):
        export_model(source, "torch", tmp_path / "made.pt2", images)
    assert "noise does not count" in caplog.text
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("nowhere", "--format", "onnx"), ["nowhere"]),
        (("{classifier}", "--format", "onnx", "--out", "{folder}/made.pt2"), ["--out", ".onnx"]),
        (("{classifier}", "--format", "torch", "--images", "{folder}/none.jpg"), ["none.jpg"]),
        (("{classifier}", "--format", "torchscript"), ["torchscript"]),
    ],
)
def test_bad_input_is_refused(words, names, classifier, refusal, tmp_path):
    line = refusal("export", *(word.format(classifier=classifier, folder=tmp_path) for word in words))
    assert all(name in line for name in names)
    assert not list(tmp_path.iterdir())


def test_a_model_that_pytorch_cannot_write_is_one_line_with_the_versions(classifier, run, monkeypatch, tmp_path):
    def export(*given, **named):
        raise torch.onnx.OnnxExporterError("a long report")

    monkeypatch.setattr(torch.onnx, "export", export)
    status, _, err = run("export", classifier, "--format", "onnx", "--out", tmp_path / "made.onnx")
    line = err.splitlines()[-1]  # after what is being done
    assert status == 2 and torch.__version__ in line and "onnxscript" in line
    assert not list(tmp_path.iterdir())


def test_a_folder_in_the_place_of_the_file_is_refused(classifier, refusal, tmp_path):
    (tmp_path / "made.pt2").mkdir()
    line = refusal("export", classifier, "--format", "torch", "--out", tmp_path / "made.pt2")
    assert "--out" in line and "made.pt2 is a folder" in line


def test_without_onnxruntime_the_extra_is_named(classifier, refusal, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    line = refusal("export", classifier, "--format", "onnx", "--out", tmp_path / "made.onnx")
    assert "pip install 'botvision[onnx]'" in line
    assert not list(tmp_path.iterdir())
