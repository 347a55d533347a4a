"""Detectors that botvision export writes, run without botvision, beside the models that they were made of."""

import json
import re
import shutil
from functools import cache
from pathlib import Path

import pytest
import torch
from torchvision.ops import box_iou

import botvision
from botvision.data import Category
from botvision.export import FORMATS, export_model
from botvision.export.sources import exportable, photographs
from botvision.tasks.detection import Detr, DetrConfig, KeypointRCNN, MaskRCNN
from botvision.tasks.detection.checkpoint import describe

pytest.importorskip("onnxruntime", reason="needs the extra onnx")
pytest.importorskip("onnxscript", reason="needs the extra onnx")


@pytest.fixture(scope="module")
def exported(detectors, pictures, tmp_path_factory):
    """The file of a detector in a format, written once; it was compared on the pictures."""
    folder = tmp_path_factory.mktemp("exported")

    @cache
    def file(kind: str, format_name: str):
        path = folder / f"{kind}{FORMATS[format_name].suffix}"
        done = export_model(exportable(detectors[kind]), format_name, path, photographs(pictures, None))
        assert done.images == len(pictures)
        return path

    return file


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "format_name"), [("mask_rcnn", "onnx"), ("faster_rcnn", "torch"), ("detr", "onnx"), ("detr", "torch")]
)
def test_a_detector_finds_the_same_without_botvision(
    kind, format_name, exported, detectors, pictures, run_example, scored
):
    """The first picture fills the input, so that nothing is resized."""
    rows = scored(run_example(exported(kind, format_name), pictures[0]))
    found = botvision.Predictor(detectors[kind], device="cpu")(pictures[0])
    assert len(found) > 2
    assert [score for score, _ in rows] == pytest.approx(found.scores.tolist(), abs=2e-3)
    assert sorted(name for _, name in rows) == sorted(found.names)


@pytest.mark.slow
def test_the_program_of_the_documentation_finds_what_the_example_finds(
    exported, pictures, run_example, tmp_path, monkeypatch, capsys
):
    """On a picture that has to be resized."""
    file, picture = exported("mask_rcnn", "onnx"), pictures[2]
    shutil.copy(file, tmp_path / "model.onnx")
    shutil.copy(picture, tmp_path / "photo.jpg")  # Pillow looks at the content, not at the name
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    exec(compile(program, "docs/export.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) > 2
    assert printed == run_example(file, picture)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "format_name"), [("mask_rcnn", "onnx"), ("faster_rcnn", "torch")])
def test_a_file_holds_no_paths_of_the_machine_and_no_photograph(kind, format_name, exported):
    file = exported(kind, format_name)
    assert b"tensor_programs.py" not in file.read_bytes()
    if format_name == "torch":
        images, _ = torch.export.load(file).example_inputs[0]
        assert images.unique().numel() <= 4  # zeros, and the colour of the padding


@pytest.mark.slow
@pytest.mark.pools_open_sizes
def test_a_batch_of_a_mask_rcnn_gives_what_its_images_give_alone(exported, detectors, session):
    """In onnxruntime, beside the model's own detections, at another size; what is no detection is zeros."""
    program, source = session(exported("mask_rcnn", "onnx")), exportable(detectors["mask_rcnn"])
    images = torch.rand(3, 3, 128, 80, generator=torch.Generator().manual_seed(0)).mul(255).round()
    sizes = torch.tensor([(128, 80), (30, 24), (90, 70)])

    def answers(row: slice) -> dict[str, torch.Tensor]:
        found = program(images=images[row].numpy(), content_size=sizes[row].numpy())
        return {name: torch.from_numpy(values) for name, values in found.items()}

    together = answers(slice(3))
    absent = together["scores"] == 0
    assert absent.any(), "an image should have fewer detections than there is room for"
    for name, values in together.items():
        assert not values[absent].any(), name
    for number in range(3):
        row = slice(number, number + 1)
        with torch.no_grad():
            expected = source.eager(images[row], sizes[row])
        assert source.difference(expected, answers(row)) is None
        assert source.difference(expected, {name: values[row] for name, values in together.items()}) is None


@pytest.mark.parametrize("make", [MaskRCNN, Detr])
def test_a_program_finds_what_its_detector_does_in_images_of_five_channels(make, tiny, make_lively, tmp_path):
    torch.manual_seed(0)
    statistics = {"in_channels": 5, "pixel_mean": (900.0,) * 5, "pixel_std": (300.0,) * 5}
    if make is Detr:
        model = Detr(DetrConfig(depths=(1, 1, 1, 1), width=8, input_size=96, hidden=32, heads=4, **statistics), 3)
    else:
        model = make_lively(MaskRCNN(tiny.replace(input_size=96, score_threshold=0.05, **statistics), 3), 3.0)
    checkpoint, categories = tmp_path / "made.ckpt", [Category(number, str(number)) for number in (1, 2, 3)]
    content = {"botvision": describe(model.config, categories), "state_dict": model.state_dict(), "step": 1}
    torch.save(content, checkpoint)
    source = exportable(checkpoint)
    inputs = source.inputs(torch.rand(5, 130, 110, generator=torch.Generator().manual_seed(0)) * 2000)
    with torch.no_grad():
        wanted, found = source.eager(*inputs), source.program(*inputs)
    assert source.is_telling(wanted)
    assert source.difference(wanted, found) is None


@pytest.mark.parametrize("kind", ["mask_rcnn", "faster_rcnn", "detr"])
def test_anchors_of_equal_scores_are_taken_in_their_order(kind, detectors):
    """In a flat image all cells of a level have the same scores, more of them than are taken."""
    source = exportable(detectors[kind])
    image = torch.full((3, 96, 96), 90, dtype=torch.uint8)
    image[:, 20:50, 30:70] = 200
    with torch.no_grad():
        wanted, found = source.eager(*source.inputs(image)), source.program(*source.inputs(image))
    assert source.is_telling(wanted)
    assert source.difference(wanted, found) is None


def test_what_noise_changes_is_undecided(detectors, pictures):
    """Boxes of equal scores in a flat image, not those of a picture."""
    source = exportable(detectors["mask_rcnn"])
    ((_, picture), *_) = photographs(pictures, None)
    with torch.no_grad():
        assert source.is_undecided(*source.inputs(torch.full((3, 96, 96), 90, dtype=torch.uint8)))
        assert not source.is_undecided(*source.inputs(picture))


def test_metadata_say_what_goes_in_and_what_comes_out(detectors):
    about = exportable(detectors["mask_rcnn"]).metadata
    assert about["class_names"][1] == "bee" and about["category_ids"][1] == 20
    assert (about["longer_side"], about["score_threshold"], about["mask_threshold"]) == (96, 0.05, 0.5)
    assert json.loads(json.dumps(about)).keys() == about.keys()


def test_detections_are_compared_whatever_their_order(detectors):
    """The same in another order agrees; a box, a label or a score of its own does not, unless it is too weak."""
    source, rng = exportable(detectors["faster_rcnn"]), torch.Generator().manual_seed(0)
    corners = torch.rand(5, 2, generator=rng) * 50
    boxes = torch.cat([corners, corners + 20], dim=1)
    assert box_iou(boxes, boxes).fill_diagonal_(0).max() < 0.99
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.0505])
    wanted = {"boxes": boxes[None], "labels": torch.arange(1, 6)[None], "scores": scores[None]}
    order = torch.tensor([2, 0, 4, 3, 1])
    assert source.difference(wanted, {name: rows[:, order] for name, rows in wanted.items()}) is None
    assert source.difference(wanted, {name: rows[:, :4] for name, rows in wanted.items()}) is None
    for name, by in (("boxes", 1.0), ("labels", 1), ("scores", 0.01)):
        moved = {**wanted, name: wanted[name].clone()}
        moved[name][0, 2] += by
        assert "label 3" in source.difference(wanted, moved)
    doubled = {name: torch.cat([rows, rows], dim=1) for name, rows in wanted.items()}
    assert "export alone" in source.difference(wanted, doubled)
    nothing = {name: rows * 0 for name, rows in wanted.items()}
    assert "model alone" in source.difference(wanted, nothing)
    assert source.is_telling(wanted) and not source.is_telling(nothing)
    lost = {**wanted, "scores": wanted["scores"] * torch.nan}
    assert "finite" in source.difference(lost, lost)


def test_detections_of_little_certainty_are_compared_too(detectors):
    """A model that has learned little gives scores near chance, all within the tolerance of the weakest one."""
    source = exportable(detectors["faster_rcnn"])
    source.metadata["score_threshold"] = 0.0
    count = source.model.config.detections
    boxes = torch.tensor([[10.0, 10.0, 60.0, 60.0]]).repeat(count, 1) + torch.arange(count)[:, None]
    scores = torch.linspace(0.0110, 0.0101, count)
    wanted = {"boxes": boxes[None], "labels": torch.ones(1, count, dtype=torch.int64), "scores": scores[None]}
    assert source.is_telling(wanted)
    assert source.difference(wanted, {name: rows * 0 for name, rows in wanted.items()})
    weakest_missing = {name: rows[:, : count - 5] for name, rows in wanted.items()}
    assert source.difference(wanted, weakest_missing) is None


def test_keypoint_rcnn_is_refused(tiny, refusal, tmp_path):
    config, categories = tiny.replace(detector="keypoint_rcnn"), [Category(1, "person", ("nose", "tail"), ((1, 2),))]
    model, checkpoint = KeypointRCNN(config, 1, 2), tmp_path / "made.ckpt"
    content = {"botvision": describe(config, categories), "state_dict": model.state_dict(), "step": 1}
    torch.save(content, checkpoint)
    assert "Keypoint R-CNN" in refusal("export", checkpoint, "--format", "torch")
    assert list(tmp_path.iterdir()) == [checkpoint]
