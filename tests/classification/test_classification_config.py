"""A classifier as data: what it changes of a named model, and what it refuses."""

import pytest

from botvision.classification import Classifier, ClassifierConfig
from botvision.errors import UserError
from botvision.models import model_config


def test_without_fields_it_is_the_named_model():
    for name in ("resnet50", "botnet_t6", "senet_s5"):
        assert ClassifierConfig(name).network() == model_config(name)


def test_fields_replace_those_of_the_named_model():
    config = ClassifierConfig(
        "botnet_t6", depths=(1, 1, 1, 1), width=16, input_size=96, dropout=0.1, stochastic_depth=0
    )
    network = config.network()
    assert (network.depths, network.width, network.input_size) == ((1, 1, 1, 1), 16, 96)
    assert (network.dropout, network.stochastic_depth) == (0.1, 0)
    assert network.c5_stride == model_config("botnet_t6").c5_stride
    assert config.image_size == 96
    assert ClassifierConfig("botnet_t6").image_size == 320


def test_lists_of_a_configuration_file_are_as_good_as_tuples():
    assert ClassifierConfig("botnet50", depths=[1, 1, 1, 1]).network().depths == (1, 1, 1, 1)


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
def test_what_cannot_be_built_is_refused_by_its_flag(field, value):
    with pytest.raises(UserError, match=f"--{field.replace('_', '-')} must be"):
        ClassifierConfig(**{field: value})


def test_an_unknown_model_is_answered_with_the_nearest():
    with pytest.raises(UserError, match="botnet50"):
        ClassifierConfig("botnet5").network()


@pytest.mark.parametrize(("freeze", "trained"), [("none", 55), ("stem", 52), ("c5", 2)])
def test_how_much_is_trained(freeze, trained):
    """Of a network of one block a stage: 3 tensors in the stem, 2 in the classifier."""
    model = Classifier(ClassifierConfig(depths=(1, 1, 1, 1), width=8, input_size=64, freeze=freeze), 3)
    assert sum(parameter.requires_grad for parameter in model.parameters()) == trained
