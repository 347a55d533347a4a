"""Accuracy, loss, calibration and confusion, against torchmetrics and closed forms; what an evaluation writes."""

import csv
import json
import math
import multiprocessing
import sys

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_confusion_matrix,
)

from botvision.errors import NotFiniteError, UserError
from botvision.tasks.classification import Classifier, ClassifierConfig
from botvision.tasks.classification.confusion import confusion_matrix, most_confused, save_confusion
from botvision.tasks.classification.evaluate import (
    calibration_error,
    classification_scores,
    evaluate_classifier,
    judge,
    own_label,
    write_results,
)

CLASSES = 7
NAMES = [f"class {number}" for number in range(CLASSES)]


def evaluate(model, data, **options):
    """Scores and results."""
    evaluation = evaluate_classifier(model, data, NAMES, **options)
    return evaluation.scores, evaluation.results


class Noise:
    """Labelled noise; of some places there is no image."""

    def __init__(self, images: int, unreadable: tuple[int, ...] = ()) -> None:
        generator = torch.Generator().manual_seed(2)
        self.images = torch.randint(0, 256, (images, 3, 64, 64), dtype=torch.uint8, generator=generator)
        self.labels = torch.randint(0, CLASSES, (images,), generator=generator).tolist()
        self.unreadable = unreadable

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int):
        path = f"{index:03}.jpg"
        if index in self.unreadable:
            return None, {"path": path, "reason": "cut off"}
        return self.images[index], {"label": self.labels[index], "path": path}


@pytest.fixture(scope="module")
def model() -> Classifier:
    """Answers differently for different noise, and with different confidence."""
    torch.manual_seed(0)
    model = Classifier(ClassifierConfig(depths=(1, 1, 1, 1), width=16, input_size=64), CLASSES)
    with torch.no_grad():
        model.network.fc.weight.normal_(std=2.0)
        logits = model.eval()(Noise(100).images)
        model.network.fc.bias -= logits.mean(dim=0)
        model.network.fc.weight *= 3 / logits.std(dim=0).mean()
        model.network.fc.bias *= 3 / logits.std(dim=0).mean()
    return model.train()


@torch.no_grad()
def logits_of(model: Classifier, images: torch.Tensor) -> torch.Tensor:
    model.eval()
    logits = model(images).double()
    model.train()
    return logits


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (7, 0), (16, 1), (100, 0)])
def test_scores_are_those_of_torchmetrics(model, batch_size, workers):
    data = Noise(40)
    scores, predictions = evaluate(model, data, batch_size=batch_size, workers=workers)
    logits, labels = logits_of(model, data.images), torch.tensor(data.labels)
    assert len(logits.argmax(dim=1).unique()) > 3
    for name, top in (("top1", 1), ("top5", 5)):
        expected = multiclass_accuracy(logits, labels, CLASSES, top_k=top, average="micro")
        assert scores[name] == pytest.approx(float(expected), abs=1e-6)
    assert scores["loss"] == pytest.approx(float(torch.nn.functional.cross_entropy(logits, labels)), rel=1e-5)
    expected = multiclass_calibration_error(logits.softmax(dim=1), labels, CLASSES, n_bins=15, norm="l1")
    assert scores["ece"] == pytest.approx(float(expected), abs=1e-5)
    assert (scores["images"], scores["skipped"]) == (40, 0)
    assert [prediction["path"] for prediction in predictions] == [f"{index:03}.jpg" for index in range(40)]
    assert [prediction["label"] for prediction in predictions] == data.labels
    assert [prediction["predicted"] for prediction in predictions] == logits.argmax(dim=1).tolist()
    probabilities = logits.softmax(dim=1).amax(dim=1).tolist()
    assert [prediction["probability"] for prediction in predictions] == pytest.approx(probabilities, rel=1e-4)
    expected = multiclass_confusion_matrix(logits.argmax(dim=1), labels, CLASSES)
    assert confusion_matrix(predictions, CLASSES).tolist() == expected.tolist()


def test_progress_is_told_and_the_mode_of_the_model_is_kept(model):
    told = []
    for mode in (True, False):
        model.train(mode)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        evaluate(model, Noise(5), batch_size=2, on_image=lambda done, total: told.append((done, total)))
        assert model.training is mode
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert told == [(2, 5), (4, 5), (5, 5)] * 2


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_answers_that_are_not_finite_are_refused(model, value):
    broken = Classifier(model.config, CLASSES)
    with torch.no_grad():
        broken.network.fc.bias[3] = value
    with pytest.raises(NotFiniteError, match=r"answer to 000\.jpg is not finite: .* blown up"):
        evaluate(broken, Noise(2), batch_size=2)


def test_unreadable_images_are_left_out_and_counted(model):
    bad = Noise(120, unreadable=(0,))
    scores, predictions = evaluate(model, bad, batch_size=1)  # its first batch holds nothing
    whole, others = evaluate(model, Noise(120), batch_size=16)
    assert (scores["skipped"], scores["images"], whole["skipped"]) == (1, 119, 0)
    assert [row["predicted"] for row in predictions] == [row["predicted"] for row in others[1:]]
    assert scores["top1"] == pytest.approx((whole["top1"] * 120 - (others[0]["label"] == others[0]["predicted"])) / 119)


def test_more_than_one_percent_of_unreadable_images_is_refused_by_name(model):
    with pytest.raises(UserError, match=r"2 of 120 images .* 003\.jpg, 117\.jpg$"):
        evaluate(model, Noise(120, unreadable=(3, 117)), batch_size=16)
    assert evaluate(model, Noise(20, unreadable=(3,)), batch_size=16)[0]["skipped"] == 1
    with pytest.raises(UserError, match=r"30 of 30 images .* 019\.jpg and 10 more$"):
        evaluate(model, Noise(30, unreadable=tuple(range(30))), batch_size=16)


@pytest.mark.skipif(sys.platform == "win32", reason="processes are not forked there")
def test_several_processes_share_the_images_and_return_the_same(model, tmp_path):
    data = Noise(121, unreadable=(8,))  # shares of unlike sizes

    def share(rank: int, queue) -> None:
        dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=rank, world_size=2)
        told = []
        result = evaluate(model, data, batch_size=16, on_image=lambda done, total: told.append((done, total)))
        queue.put((*result, told[-1]))
        dist.destroy_process_group()

    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=share, args=(rank, queue)) for rank in range(2)]
    for process in processes:
        process.start()
    found = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
    alone = evaluate(model, data, batch_size=16)
    assert sorted(last for *_, last in found) == [(57, 57), (64, 64)]  # whole batches: 8 of 16, the last one of 9
    most_confused_alone = alone[0].pop("most_confused")
    for scores, predictions, _ in found:
        assert scores.pop("most_confused") == most_confused_alone
        assert scores == pytest.approx(alone[0], rel=1e-4)
        assert [(row["path"], row["predicted"]) for row in predictions] == [
            (row["path"], row["predicted"]) for row in alone[1]
        ]


def test_a_label_that_the_model_does_not_have(model):
    data = Noise(3)
    data.labels[1] = CLASSES
    with pytest.raises(UserError, match=r"001\.jpg has label 7, the model's classes are 0 to 6"):
        evaluate(model, data, batch_size=2)
    with pytest.raises(UserError, match="label -1"):
        evaluate(model, Noise(3), batch_size=2, right_labels=lambda target: [-1])


def test_nothing_to_score(model):
    with pytest.raises(UserError, match="no image"):
        evaluate(model, Noise(3), batch_size=2, right_labels=lambda target: [])


def test_any_of_several_right_labels_counts_and_none_leaves_an_image_out():
    logits = torch.tensor([[4.0, 3, 2, 1, 0, -1]]).repeat(4, 1).double()
    targets = [{"label": 5, "path": str(index)} for index in range(4)]
    right = {"0": [3, 0], "1": [5, 4], "2": [], "3": [5]}
    rows = judge(logits, targets, lambda target: right[target["path"]])
    assert [(row["path"], row["label"], row["top1"], row["top5"]) for row in rows] == [
        ("0", 0, True, True),
        ("1", 5, False, True),
        ("3", 5, False, False),
    ]
    total = sum(math.exp(value) for value in range(-1, 5))
    losses = [-math.log(sum(math.exp(4 - label) for label in right[path]) / total) for path in ("0", "1", "3")]
    assert [row["loss"] for row in rows] == pytest.approx(losses)
    assert all(row["probability"] == pytest.approx(math.exp(4) / total) for row in rows)


def test_of_fewer_than_five_classes_all_are_among_the_first_five():
    rows = judge(
        torch.randn(20, 3).double(), [{"label": index % 3, "path": str(index)} for index in range(20)], own_label
    )
    assert classification_scores(rows, 0)["top5"] == 1.0
    assert judge(torch.zeros(1, 1).double(), [{"label": 0, "path": ""}], own_label)[0]["top1"]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.floats(0.001, 0.999), st.booleans()), min_size=1, max_size=60))
def test_calibration_error_is_the_gap_of_each_bin_weighted_by_its_share(answers):
    probabilities, right = np.array([p for p, _ in answers]), np.array([float(r) for _, r in answers])
    expected = 0.0
    for low, high in ((k / 15, (k + 1) / 15) for k in range(15)):
        inside = (probabilities * 15 > low * 15) & (probabilities * 15 <= high * 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - probabilities[inside].mean())
    found = calibration_error(torch.from_numpy(probabilities), torch.from_numpy(right))
    assert found == pytest.approx(expected, abs=1e-9)


def test_calibration_error_where_it_is_known():
    one = torch.ones(4, dtype=torch.float64)
    assert calibration_error(one, one) == 0
    assert calibration_error(one, 0 * one) == 1
    assert calibration_error(0.75 * one, torch.tensor([1.0, 1, 1, 0], dtype=torch.float64)) == pytest.approx(0)
    # A confidence of 1 belongs to the last bin, where others make up for it.
    assert calibration_error(torch.tensor([1.0, 0.95]), torch.tensor([1.0, 0.95])) == 0


def test_the_most_confused_pairs_come_first():
    matrix = np.array([[5, 0, 3], [1, 9, 0], [0, 4, 4]])
    pairs = most_confused(matrix, ["a", "b", "c"])
    assert [(pair["label"], pair["predicted"], pair["images"]) for pair in pairs] == [
        ("c", "b", 4),
        ("a", "c", 3),
        ("b", "a", 1),
    ]
    assert [pair["share"] for pair in pairs] == [4 / 8, 3 / 8, 1 / 10]
    assert most_confused(np.eye(3, dtype=int), ["a", "b", "c"]) == []


def drawn(matrix: np.ndarray, file) -> np.ndarray:
    """The picture of a matrix whose classes have names that a typesetter could take for formulas."""
    save_confusion(matrix, [f"$class_{index}$ with a long name, $" for index in range(len(matrix))], file)
    return np.asarray(Image.open(file).convert("RGB")).astype(int)


@pytest.mark.parametrize("classes", [10, 100, 1000])
def test_a_confusion_is_seen_at_its_place_whatever_the_number_of_classes(tmp_path, classes):
    matrix = 50 * np.eye(classes, dtype=np.int64)
    before = drawn(matrix, tmp_path / "before.png")
    blue = before[..., 2] - before[..., 0] > 60
    top, left = np.argwhere(blue).min(axis=0)
    side = min(max(0.4 * classes, 4.0), 10.0) * 200  # pixels of the matrix
    assert blue[:, left : left + round(side)].any(axis=1).sum() >= 0.95 * side  # the whole diagonal
    row, column = classes // 5, classes - 1
    matrix[row, column] = 2
    after = drawn(matrix, tmp_path / "after.png")
    shown = min(before.shape[1], after.shape[1])  # the words at the right may be longer
    changed = np.abs(after[:, :shown] - before[:, :shown]).sum(axis=2) > 60
    middle = left + round(side / 2)
    changed = np.argwhere(changed[:, middle : left + round(side)]) + np.array([0, middle])
    cell = side / classes
    for axis, place, start in ((0, row, top), (1, column, left)):
        assert changed[:, axis].min() == pytest.approx(start + place * cell, abs=3)
        assert changed[:, axis].max() == pytest.approx(start + (place + 1) * cell, abs=3)


def test_the_picture_of_a_single_class(tmp_path):
    assert drawn(np.array([[3]]), tmp_path / "one.png").shape[0] > 800


def test_what_is_written_reads_back(model, tmp_path):
    data = Noise(30)
    names = ["a, b", 'say "c"', "d", "e", "é", "f", "g"]
    evaluation = evaluate_classifier(model, data, names, batch_size=8)
    scores, predictions = evaluation.scores, evaluation.results
    write_results(tmp_path / "out", evaluation, names, step=7)
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "analysis.json",
        "confusion.png",
        "metrics.json",
        "predictions.csv",
        "report.html",
    ]
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert {name: written[name] for name in scores} == scores
    assert written["step"] == 7
    assert scores["most_confused"] == most_confused(confusion_matrix(predictions, CLASSES), names)
    with (tmp_path / "out" / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row, prediction in zip(rows, predictions, strict=True):
        assert row["path"] == prediction["path"]
        assert [int(row["label"]), int(row["predicted"])] == [prediction["label"], prediction["predicted"]]
        assert float(row["probability"]) == prediction["probability"]
        assert [row["label_name"], row["predicted_name"]] == [
            names[prediction["label"]],
            names[prediction["predicted"]],
        ]
