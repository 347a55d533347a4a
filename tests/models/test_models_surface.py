"""What users of timm type: its names, and its answers for the ResNet that both have."""

import pytest
import timm
import torch
from torch import nn

import botvision
from botvision.configuration import FieldError
from botvision.errors import UserError
from botvision.models import CATALOGUE

SMALL = {"depths": (1, 1, 1, 1), "width": 8}


def test_what_there_is_can_be_seen_and_had():
    seen = dir(botvision)
    assert {"create_model", "list_models", "load", "save", "load_weights", "relative_attention", "models"} <= set(seen)
    assert all(getattr(botvision, name) is not None for name in seen)


def test_models_are_listed_by_a_part_of_their_name_or_a_pattern():
    assert botvision.list_models() == list(CATALOGUE)
    assert botvision.list_models("botnet_t*") == [f"botnet_t{number}" for number in range(3, 8)]
    assert botvision.list_models("_c4") == ["resnet50_nl_c4", "resnet50_bot_c4", "resnet50_bot_c4c5"]
    assert botvision.list_models("nothing") == []


@pytest.mark.parametrize("indices", [(0, 1, 2, 3, 4), (1, 2, 3, 4), (2, 4)])
def test_features_are_those_that_timm_has_for_a_resnet(indices):
    theirs = timm.create_model("resnet50", features_only=True, out_indices=indices)
    ours = botvision.create_model("resnet50", features_only=True, out_indices=indices)
    assert ours.feature_info.channels() == theirs.feature_info.channels()
    assert ours.feature_info.reduction() == theirs.feature_info.reduction()
    images = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        shapes = [map_.shape for map_ in ours.eval()(images)]
        assert shapes == [map_.shape for map_ in theirs.eval()(images)]


def test_the_maps_are_the_same_whichever_are_asked_for():
    torch.manual_seed(0)
    every = botvision.create_model("botnet50", features_only=True, out_indices=(0, 1, 2, 3, 4), **SMALL).eval()
    some = botvision.create_model("botnet50", features_only=True, out_indices=(3, 0), **SMALL).eval()
    some.load_state_dict(every.state_dict())
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        wanted, found = every(images), some(images)
    torch.testing.assert_close(found, [wanted[3], wanted[0]], rtol=0, atol=0)


def test_a_file_remembers_which_maps_were_asked_for(tmp_path):
    model = botvision.create_model("botnet50", features_only=True, out_indices=(2, 4), **SMALL)
    botvision.save(model, tmp_path / "model.safetensors")
    assert botvision.load(tmp_path / "model.safetensors").feature_info == model.feature_info


def test_timms_names_of_fields_are_ours():
    theirs = {"in_chans": 5, "img_size": (96, 64), "drop_rate": 0.1, "drop_path_rate": 0.2}
    model = botvision.create_model("botnet50", **theirs, **SMALL)
    config = model.config
    found = (config.in_channels, config.input_size, config.dropout, config.stochastic_depth)
    assert found == tuple(theirs.values())
    assert model.eval()(torch.randn(1, 5, 96, 64)).shape == (1, 1000)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_new_classifier_has_other_classes_and_the_networks_dtype(dtype):
    model = botvision.create_model("botnet50", **SMALL).to(dtype).eval()
    images = torch.randn(2, 3, 64, 64, dtype=dtype)
    model.reset_classifier(7)
    assert model(images).shape == (2, 7)
    assert model(images).dtype == dtype
    model.reset_classifier(0)
    assert model(images).shape == (2, model.config.channels[-1])
    assert isinstance(model.fc, nn.Identity)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"pretrained": True}, "pretrained"),
        ({"features_only": True, "out_indices": (5,)}, "out_indices"),
        ({"features_only": True, "out_indices": (-1,)}, "out_indices"),
        ({"features_only": True, "out_indices": ()}, "out_indices"),
        ({"in_chans": 4, "in_channels": 4}, "in_chans"),
        ({"num_class": 3}, "num_class: .*num_classes"),
    ],
)
def test_what_cannot_be_had_is_refused_by_its_name(arguments, field):
    with pytest.raises(FieldError, match=field):
        botvision.create_model("botnet50", **SMALL, **arguments)


def test_another_module_is_not_saved(tmp_path):
    with pytest.raises(UserError, match="Linear"):
        botvision.save(nn.Linear(2, 2), tmp_path / "linear.safetensors")
    assert not list(tmp_path.iterdir())


def test_features_have_no_classifier_to_reset():
    with pytest.raises(FieldError, match="features_only"):
        botvision.create_model("botnet50", features_only=True, **SMALL).reset_classifier(3)
