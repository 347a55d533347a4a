"""The table about far-apart things: what the networks see, what colours alone can tell, and a run of it."""

import json
from dataclasses import replace
from itertools import combinations, product

import pytest
import torch

from botvision.data.context_scenes import COLOURS, RADIUS, SCENES
from botvision.errors import UserError
from botvision.experiments import EXPERIMENTS, context, context_runs
from botvision.experiments.context import (
    CHANCE,
    MOST_FREQUENT,
    ROWS,
    Cell,
    ContextRecipe,
    Results,
)
from botvision.experiments.context_report import PREDICTED
from botvision.experiments.context_runs import cells_of, run_context
from botvision.experiments.context_training import draw_batch, train_cell
from botvision.models import Network
from botvision.models.counting import receptive_field
from botvision.tasks.detection.rcnn import FasterRCNN
from botvision.training.run_folder import read_evaluation

CPU = torch.device("cpu")
RESNETS = {"resnet": 75, "resnet_c4x2": 107}
"""Receptive fields, by hand: 7 of the stem, 11 with its pooling, then 19, 27, 43 and 75 of c2 to c5; two blocks in c4
make 43, 75 and 107 of the last three."""
IN_FRONT_OF_ATTENTION = 43
FAR = [name for name in SCENES if name != "near"]


def rows_with_gradient(output, images):
    """First and last row of the pixels that an output depends on."""
    (gradient,) = torch.autograd.grad(output.sum(), images, retain_graph=True)
    rows = gradient.abs().sum(dim=(0, 1, 3)).nonzero().flatten().tolist()
    return rows[0], rows[-1]


@pytest.fixture
def images():
    return torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(0), requires_grad=True)


def positive(model):
    """A model whose weights are all positive, so that no gradient is zero by chance or by a ReLU."""
    for parameter in model.parameters():
        torch.nn.init.uniform_(parameter, 0.01, 0.02)
    return model.eval()


@pytest.mark.parametrize("name", ROWS)
def test_the_receptive_field_is_where_the_gradients_are(name, images):
    network = positive(Network(ROWS[name].network, features_only=True))
    side, middle = receptive_field(network), 128
    assert side == RESNETS.get(name, IN_FRONT_OF_ATTENTION)
    maps = {}
    for stage in ("layer3.0", "layer4"):
        network.get_submodule(stage).register_forward_hook(
            lambda module, inputs, output, stage=stage: maps.update({stage: output})
        )
    network(images)
    c5 = rows_with_gradient(maps["layer4"][:, :, 4, 4], images)
    if name in RESNETS:
        assert c5 == (middle - side // 2, middle + side // 2)
    else:
        assert c5[0] < 5
        assert c5[1] > 250
        before = rows_with_gradient(maps["layer3.0"][:, :, 8, 8], images)
        assert before == (middle - side // 2, middle + side // 2)


def cell_offset(kind):
    """Largest distance in x from an object to the middle of the cell that it is read off at."""
    middles = [kind.image_size // 2] if kind.four_cues else range(RADIUS, kind.image_size - RADIUS)
    cells = range(0, kind.image_size, 32)
    return max(min(abs(x - cell) for cell in cells) for x in middles)


@pytest.mark.parametrize("side", RESNETS.values())
def test_no_convolution_reaches_a_far_cue_from_its_object_and_every_one_reaches_a_near_one(side):
    for name in FAR:
        assert SCENES[name].distance[0] - RADIUS > side // 2 + cell_offset(SCENES[name])
    assert SCENES["near"].distance[1] + RADIUS <= side // 2 - cell_offset(SCENES["near"])


def test_nothing_but_attention_can_tell_the_left_cue_in_the_far_scenes():
    """In front of attention no cell sees two squares, which shows their direction, nor a cue and the edge's padding."""
    kind, side = SCENES["which"], IN_FRONT_OF_ATTENTION
    to_object = kind.distance[0] - 2 * RADIUS
    to_next_cue = kind.distance[0] - kind.sideways - 2 * RADIUS
    to_edge = kind.image_size - 1 - (kind.image_size // 2 + kind.distance[1] + RADIUS)
    assert min(to_object, to_next_cue) + 1 >= side  # from the last pixel of one to the first of the other
    assert to_edge >= side - 1


def test_the_detector_on_a_resnet_does_not_see_a_far_cue(images):
    kind, (top, bottom) = SCENES["what"], (96 - RADIUS, 97 + RADIUS)
    model = positive(FasterRCNN(EXPERIMENTS["context/resnet50"].config.model, len(COLOURS)))
    pixels = images[:, :, : kind.image_size, : kind.image_size]
    for place in range(0, 32, 8):  # against the cells of c5
        box = torch.tensor([[90.0, top + place, 105.0, bottom + place]])
        heads = model.roi_heads
        pooled = heads.box_roi_pool(model.backbone(pixels), [box, box], [(kind.image_size,) * 2] * 2)
        logits = heads.box_predictor(heads.box_head(pooled))[0]
        first, last = rows_with_gradient(logits, images)
        middle = 96 + place
        assert max(middle - first, last - middle) < kind.distance[0] - RADIUS


def test_the_most_frequent_of_four_colours_is_the_left_one_in_17_of_32_scenes():
    scenes = list(product(range(len(COLOURS)), repeat=4))
    shares = [max(scene.count(colour) for colour in scene) / 4 for scene in scenes]  # the cues are alike to chance
    assert sum(shares) / len(scenes) == MOST_FREQUENT == 0.53125
    assert CHANCE == 0.25
    assert "53.1%" in PREDICTED["most frequent"]


def test_a_table_is_trained_once_and_read_back(run, refusal, tmp_path):
    few = ("--steps", 2, "--batch-size", 2, "--test-images", 4, "--jobs", 1, "--seeds", 1, "--columns", "near")
    status, out, err = run("paper", "context", *few, "--rows", "resnet", "botnet_qk", "--out", tmp_path / "a", "--json")
    assert status == 0, err
    scores = {(row["row"], row["column"]): row["scores"] for row in json.loads(out)["table"]}
    trained = {("resnet", "near"), ("botnet_qk", "near")}
    assert {key for key, found in scores.items() if found} == trained
    assert all(scores[key][0] in (0, 25, 50, 75, 100) for key in trained)
    assert {file.name for file in (tmp_path / "a").iterdir()} == {"results.json", "README.md", "context.png"}

    file = tmp_path / "a" / "results.json"
    written = json.loads(file.read_text())["cells"]
    more = (*few, "--rows", "botnet_qk", "lambda", "--out", tmp_path / "a")
    status, out, err = run("paper", "context", *more, "--markdown")
    assert status == 0, err
    assert out.strip() == (tmp_path / "a" / "README.md").read_text().strip()
    again = json.loads(file.read_text())["cells"]
    assert again[:2] == written  # not trained again, the seconds included
    assert [cell["row"] for cell in again] == ["resnet", "botnet_qk", "lambda"]

    assert "results.json" in refusal("paper", "context", *more, "--lr", "0.5")
    file.write_text('{"cells": 3}')
    assert "results.json" in refusal("paper", "context", *more)
    for flag, value in (("--rows", "botnet_qr"), ("--columns", "nearer")):
        assert flag in refusal("paper", "context", flag, value, "--out", tmp_path / "a")
    assert file.read_text() == '{"cells": 3}'


@pytest.mark.parametrize(
    ("table", "entry", "changed"),
    [
        ("SCENES", "near", replace(SCENES["near"], distance=(17, 21))),
        ("ROWS", "lambda", replace(ROWS["lambda"], network=ROWS["lambda"].network.replace(width=8))),
    ],
)
def test_numbers_of_other_scenes_or_networks_are_not_gone_on_with(tmp_path, monkeypatch, table, entry, changed):
    file = tmp_path / "results.json"
    Results(file, ContextRecipe()).add(Cell("resnet", "near", 0), {"score": 0.5, "seconds": 1.0})
    Results(file, ContextRecipe()).read()
    monkeypatch.setitem(getattr(context, table), entry, changed)
    with pytest.raises(UserError, match=r"results.json is of other scenes or networks"):
        Results(file, ContextRecipe()).read()


def test_numbers_of_other_detectors_are_not_gone_on_with(tmp_path, monkeypatch):
    file = tmp_path / "results.json"
    Results(file, ContextRecipe()).add(Cell("resnet", "detect", 0), {"score": 0.5, "seconds": 1.0})
    entry = EXPERIMENTS["context/resnet50"]
    changed = entry.config.replace(run=entry.config.run.replace(steps=7))
    monkeypatch.setitem(EXPERIMENTS, "context/resnet50", replace(entry, build=lambda options: changed))
    with pytest.raises(UserError, match=r"results.json is of other"):
        Results(file, ContextRecipe()).read()


def test_the_detectors_data_are_there_before_several_trainings_want_them(tmp_path, monkeypatch):
    monkeypatch.setattr(context_runs, "TRAIN_IMAGES", 4)
    monkeypatch.setattr(context_runs, "VAL_IMAGES", 2)
    found = []

    def training(cell, recipe, folder, device):
        found.append((folder / "data" / "annotations").is_dir())
        return {"score": 0.0, "seconds": 0.0}

    monkeypatch.setattr(context_runs, "train", training)
    run_context(
        Results(tmp_path / "results.json", ContextRecipe()), cells_of(ROWS, ["detect"], 1), 1, CPU, lambda *_: None
    )
    assert found == [True, True]


def test_a_seed_gives_the_same_training_again():
    recipe = ContextRecipe(steps=3, batch_size=2, test_images=32)
    first, again = (train_cell(Cell("resnet", "near", 1), recipe, CPU)["score"] for _ in range(2))
    assert first == again
    images = [draw_batch(SCENES["near"], 2, *stream)[0] for stream in ((1, 0, 0), (1, 1, 0), (2, 0, 0), (1, 0, 1))]
    assert all(not torch.equal(a, b) for a, b in combinations(images, 2))  # training, test, another seed, another step


def test_a_detector_is_a_cell_whose_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(context_runs, "TRAIN_IMAGES", 4)
    monkeypatch.setattr(context_runs, "VAL_IMAGES", 2)
    entry = EXPERIMENTS["context/resnet50"]
    run = entry.config.run.replace(steps=2, batch_size=2, eval_every=2)
    short = replace(entry, build=lambda options: entry.config.replace(run=run))
    monkeypatch.setitem(EXPERIMENTS, "context/resnet50", short)
    results = Results(tmp_path / "results.json", ContextRecipe())
    (cell,) = cells_of(list(ROWS)[:2], ["detect"], 1)  # the second row has no detector
    run_context(results, [cell], 1, CPU, lambda done, total: None)
    folder = tmp_path / "detectors" / "resnet-seed0"
    assert read_evaluation(folder)["step"] == 2
    assert results.cells[cell]["score"] == read_evaluation(folder)["box"]["ap50"]
    results.cells.clear()  # as after an interruption between the run's end and its entry
    run_context(results, [cell], 1, CPU, lambda done, total: None)
    read = Results(tmp_path / "results.json", ContextRecipe())
    read.read()
    assert read.cells == results.cells
    assert list((tmp_path / "detectors").iterdir()) == [folder]
