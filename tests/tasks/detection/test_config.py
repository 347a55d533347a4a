"""The settings of a detector: what is refused, and by which field."""

import pytest

from botvision.configuration import FieldError
from botvision.tasks.detection import DetectionExperiment, DetrConfig


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("model", "width", 0),
        ("model", "anchor_ratios", ()),
        ("model", "rpn_foreground_iou", 0.2),  # below the background's
        ("model", "detector", "yolo"),
        ("model", "freeze_stem", True),  # without weights
        ("model", "backbone_norm", "frozen"),
        ("model", "attention", "qkv"),
        ("model", "proposals", (1000,)),
        ("data", "jitter", (1.25, 0.8)),
        ("data", "jitter", (0, 1)),
        ("optimizer", "decay_at", (1.5,)),
        ("optimizer", "no_such_field", 1),
    ],
)
def test_wrong_settings_are_refused_by_section_and_field(section, field, value):
    with pytest.raises(FieldError) as caught:
        DetectionExperiment(**{section: {field: value}})
    assert caught.value.path[:2] == (section, field)


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("model", "heads", 3),  # of 256 channels
        ("model", "hidden", 30),  # half of it for rows, half for columns, in pairs of sine and cosine
        ("model", "rpn_nms", 0.5),
        ("optimizer", "momentum", 0.9),
        ("optimizer", "lr", 0),
    ],
)
def test_detr_has_settings_of_its_own(section, field, value):
    sections = {"model": {"detector": "detr"}, "optimizer": {}}
    sections[section][field] = value
    with pytest.raises(FieldError) as caught:
        DetectionExperiment(**sections)
    assert caught.value.path[:2] == (section, field)


@pytest.mark.parametrize("sections", [{"model": DetrConfig()}, {"model": 5}, {"model": None}, {"optimizer": [1]}])
def test_a_section_of_another_kind_is_refused_by_its_name(sections):
    with pytest.raises(FieldError) as caught:
        DetectionExperiment(**sections)
    assert caught.value.path in (("model",), ("optimizer",))
