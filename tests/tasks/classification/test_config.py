"""A classifier as data: what it changes of a named model, and what it refuses."""

import pytest

from botvision.configuration import FieldError
from botvision.errors import UserError
from botvision.models import model_config
from botvision.tasks.classification import ClassificationExperiment, Classifier, ClassifierConfig


def test_without_fields_it_is_the_named_model():
    for name in ("resnet50", "botnet_t6", "senet_s5"):
        assert ClassifierConfig(model=name).network() == model_config(name)


def test_fields_replace_those_of_the_named_model():
    config = ClassifierConfig(
        model="botnet_t6", depths=(1, 1, 1, 1), width=16, input_size=96, dropout=0.1, stochastic_depth=0
    )
    network = config.network()
    assert (network.depths, network.width, network.input_size) == ((1, 1, 1, 1), 16, 96)
    assert (network.dropout, network.stochastic_depth) == (0.1, 0)
    assert network.c5_stride == model_config("botnet_t6").c5_stride
    assert config.image_size == 96
    assert ClassifierConfig(model="botnet_t6").image_size == 320


def test_lists_of_a_configuration_file_are_as_good_as_tuples():
    assert ClassifierConfig(model="botnet50", depths=[1, 1, 1, 1]).network().depths == (1, 1, 1, 1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("width", 0),
        ("depths", (1, 0, 1, 1)),
        ("input_size", 0),
        ("dropout", 1),
        ("stochastic_depth", -0.1),
        ("freeze", "c6"),
    ],
)
def test_what_cannot_be_built_is_refused_by_its_field(field, value):
    with pytest.raises(FieldError) as caught:
        ClassifierConfig(**{field: value})
    assert caught.value.path[0] == field


def test_an_unknown_model_is_answered_with_the_nearest():
    with pytest.raises(UserError, match="botnet50"):
        ClassifierConfig(model="botnet5").network()


@pytest.mark.parametrize(("freeze", "trained"), [("none", 55), ("stem", 52), ("c5", 2)])
def test_how_much_is_trained(freeze, trained):
    """Of a network of one block a stage: 3 tensors in the stem, 2 in the classifier."""
    model = Classifier(ClassifierConfig(depths=(1, 1, 1, 1), width=8, input_size=64, freeze=freeze), 3)
    assert sum(parameter.requires_grad for parameter in model.parameters()) == trained


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("data", "crop_scale", (0.5, 0.1)),
        ("data", "crop_scale", (0.5, 1.1)),
        ("data", "crop_ratio", (2, 1)),
        ("data", "randaugment", (2, 31)),
        ("data", "mixup", -0.1),
        ("optimizer", "lr", 0),
        ("optimizer", "label_smoothing", 1),
        ("model", "freeze", "c2"),  # without weights
    ],
)
def test_wrong_settings_of_an_experiment_are_refused_by_section_and_field(section, field, value):
    with pytest.raises(FieldError) as caught:
        ClassificationExperiment(**{section: {field: value}})
    assert caught.value.path[:2] == (section, field)
