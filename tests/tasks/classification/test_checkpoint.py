"""A classifier from a checkpoint: the saved one, by its average where there is one, and refusals in one line."""

import pytest
import torch

from botvision.checkpoint import read_checkpoint
from botvision.errors import UserError
from botvision.tasks.classification import Classifier, ClassifierConfig
from botvision.tasks.classification.checkpoint import describe, load_classifier
from botvision.tasks.classification.task import ClassificationTask
from botvision.tasks.detection.checkpoint import load_detector
from botvision.tasks.detection.task import DetectionTask
from botvision.tasks.registry import task_of_checkpoint

TINY = ClassifierConfig(depths=(1, 1, 1, 1), width=8, input_size=32)
CLASSES, NAMES = ["n01", "n02", "n03"], ["cat", "dog", "fish"]


def saved(path, **changes):
    """A checkpoint of a tiny classifier, the average of its weights all ones."""
    torch.manual_seed(0)
    state = dict(Classifier(TINY, len(CLASSES)).state_dict())
    content = {
        "botvision": describe(TINY, CLASSES, NAMES),
        "state_dict": state,
        "ema_state_dict": {name: torch.ones_like(value) for name, value in state.items()},
        "step": 3,
    }
    torch.save(content | changes, path)
    return content


def test_a_loaded_classifier_is_the_saved_one(tmp_path):
    path = tmp_path / "x.ckpt"
    content = saved(path)
    for ema, part in ((True, "ema_state_dict"), (False, "state_dict")):
        model, classes, names, source = load_classifier(path, ema=ema)
        assert (classes, names, source) == (CLASSES, NAMES, path)
        assert (model.config, model.training) == (TINY, False)
        assert all(torch.equal(value, content[part][name]) for name, value in model.state_dict().items())


def test_without_an_average_the_weights_themselves_are_taken(tmp_path):
    content = saved(tmp_path / "x.ckpt")
    del content["ema_state_dict"]
    torch.save(content, tmp_path / "x.ckpt")
    weight = load_classifier(tmp_path / "x.ckpt").model.network.fc.weight
    assert torch.equal(weight, content["state_dict"]["network.fc.weight"])


def test_of_a_run_folder_the_best_one(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    saved(tmp_path / "checkpoints" / "last.ckpt")
    assert load_classifier(tmp_path).path.name == "last.ckpt"
    saved(tmp_path / "checkpoints" / "best.ckpt", best=0.5)
    assert load_classifier(tmp_path).path.name == "best.ckpt"
    saved(tmp_path / "checkpoints" / "best.ckpt", best=0.005)
    assert load_classifier(tmp_path).path.name == "last.ckpt"


def test_a_checkpoint_of_another_task_is_refused_by_both_names(tmp_path, finished_run):
    saved(tmp_path / "x.ckpt")
    assert task_of_checkpoint(tmp_path / "x.ckpt") is ClassificationTask
    assert task_of_checkpoint(finished_run) is DetectionTask
    for load, path in ((load_detector, tmp_path / "x.ckpt"), (load_classifier, finished_run)):
        with pytest.raises(UserError, match=path.name) as caught:
            load(path)
        assert "classification" in str(caught.value)
        assert "detection" in str(caught.value)


@pytest.mark.parametrize(
    "described",
    [
        {"task": "poetry"},
        {"task": "classification", "model": {}},
        describe(TINY, CLASSES[:2], NAMES[:2]),
        {**describe(TINY, CLASSES, NAMES), "model": {"model": "botnet5"}},
        {**describe(TINY, CLASSES, NAMES), "model": {"no_such_field": 1}},
    ],
)
def test_a_checkpoint_of_something_else_is_named_in_one_line(tmp_path, described):
    saved(tmp_path / "x.ckpt", botvision=described)
    with pytest.raises(UserError, match=r"x\.ckpt is") as caught:
        load_classifier(tmp_path / "x.ckpt")
    assert "\n" not in str(caught.value)


def test_an_average_that_is_no_state_dict_is_named_in_one_line(tmp_path):
    saved(tmp_path / "x.ckpt", ema_state_dict=3)
    assert read_checkpoint(tmp_path / "x.ckpt")["ema_state_dict"] == 3
    with pytest.raises(UserError, match=r"x\.ckpt is a checkpoint of another model"):
        load_classifier(tmp_path / "x.ckpt")
