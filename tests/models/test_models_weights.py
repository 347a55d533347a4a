"""Weights from files, from other libraries, for other sizes; and files that are refused."""

import json
import os
import pickle

import pytest
import timm
import torch
import torchvision
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import botvision
from botvision.errors import UserError
from botvision.models import create_model, load_weights, model_config, read_state_dict

SMALL = {"width": 8, "depths": (1, 1, 1, 2)}
IMAGE = (2, 3, 70, 97)


def wake(model):
    """Give every batch norm numbers of its own."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1)
            nn.init.normal_(layer.running_mean, std=0.1)
    return model.eval()


def same(model, other, x):
    with torch.no_grad():
        return torch.allclose(model(x), other(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_torchvision_resnet_starts_a_botnet(tmp_path, suffix):
    theirs = torchvision.models.resnet50(weights=None)
    path = tmp_path / f"resnet50{suffix}"
    if suffix == ".pth":
        torch.save(theirs.state_dict(), path)
    else:
        save_file(theirs.state_dict(), path)
    model = create_model("botnet50", num_classes=7)
    report = load_weights(model, read_state_dict(path))
    tables = {f"layer4.{i}.mhsa.{t}" for i in range(3) for t in ("qkv.weight", "rel_height", "rel_width")}
    assert set(report.at_random) == tables | {"fc.weight", "fc.bias"}
    assert set(report.unused) == {f"layer4.{i}.conv2.weight" for i in range(3)} | {"fc.weight", "fc.bias"}
    assert torch.equal(model.layer4[2].conv3.weight, theirs.layer4[2].conv3.weight)
    assert "left at random: 11" in str(report)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "ours", "changes"),
    [("resnet50", "resnet50", {}), ("seresnet50", "senet_s1", {"activation": "relu"})],
)
def test_timm_names_give_timms_logits(monkeypatch, name, ours, changes):
    torch.manual_seed(0)
    theirs = wake(timm.create_model(name))
    monkeypatch.setattr(timm, "create_model", lambda asked, pretrained: {name: theirs}[asked] if pretrained else None)
    model = create_model(ours, **changes).eval()
    report = load_weights(model, read_state_dict(f"timm/{name}"))
    assert not report.at_random and not report.unused and not report.adapted
    x = torch.randn(1, 3, 65, 98)
    with torch.no_grad():
        expected, found = theirs(x), model(x)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_a_timm_model_without_weights_is_one_line():
    with pytest.raises(ValueError, match=r"timm.*'resnetfifty'") as error:
        read_state_dict("timm/resnetfifty")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("attention", ["qk+qr_relative", "qk+qr_absolute"])
def test_tables_for_224_serve_1024_and_back(caplog, attention):
    torch.manual_seed(0)
    small = wake(create_model("botnet50", attention=attention, **SMALL))
    large = create_model("botnet50", attention=attention, input_size=1024, **SMALL).eval()
    report = load_weights(large, small.state_dict())
    prefix = "abs" if attention.endswith("absolute") else "rel"
    names = {f"layer4.{i}.mhsa.{prefix}_{axis}" for i in (0, 1) for axis in ("height", "width")}
    assert set(report.adapted) == names and not report.at_random and not report.unused
    assert "made for another size" in caplog.text and "layer4.0.mhsa" in caplog.text
    x = torch.randn(1, 3, 1024, 1024)
    assert same(small, large, x)  # the small model stretches its tables as it runs

    again = create_model("botnet50", attention=attention, **SMALL).eval()
    load_weights(again, large.state_dict())
    if prefix == "rel":
        assert same(again, large, torch.randn(IMAGE))  # every distance kept its vector
    for name, table in again.state_dict().items():
        if name in names:
            given = large.state_dict()[name]
            start = (len(given) - len(table)) // 2
            assert torch.equal(table, given[start : start + len(table)])


def test_weights_of_another_network_are_named_with_both_shapes():
    model, other = create_model("resnet50", **SMALL), create_model("resnet50", **(SMALL | {"width": 16}))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match="of another shape") as error:
        load_weights(model, other.state_dict())
    message = str(error.value)
    assert message.count(" is (") == 5 and "more" in message and "\n" not in message
    assert "conv1.weight is (16, 3, 7, 7) and should be (8, 3, 7, 7), bn1.weight is (16,)" in message
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("name", "shape"),
    [("conv1.weight", (4, 3, 7, 7)), ("bn1.running_mean", (5,)), ("layer4.0.mhsa.qkv.weight", (128, 64, 1, 1))],
)
def test_other_outputs_of_any_layer_but_a_classifier_are_refused(name, shape):
    model = create_model("botnet50", **SMALL)
    state = model.state_dict()
    with pytest.raises(ValueError, match="of another shape") as error:
        load_weights(model, state | {name: torch.zeros(shape)})
    assert f"{name} is {shape} and should be {tuple(state[name].shape)}" in str(error.value)


def test_a_detector_for_other_classes_gives_everything_but_its_predictors():
    def detector(classes):
        torch.manual_seed(classes)
        backbone = nn.Sequential(nn.Conv2d(3, 8, 3))
        backbone.out_channels = 8
        return torchvision.models.detection.MaskRCNN(backbone, classes, min_size=32)

    model, other = detector(3), detector(5)
    report = load_weights(model, other.state_dict())
    layers = ("box_predictor.cls_score", "box_predictor.bbox_pred", "mask_predictor.mask_fcn_logits")
    assert set(report.at_random) == {f"roi_heads.{layer}.{end}" for layer in layers for end in ("weight", "bias")}
    assert torch.equal(model.roi_heads.box_head.fc7.weight, other.roi_heads.box_head.fc7.weight)


def test_a_file_with_nothing_that_fits_is_refused():
    with pytest.raises(ValueError, match="no tensor of these weights fits"):
        load_weights(create_model("resnet50", **SMALL), {"encoder.weight": torch.zeros(2)})


class Malicious:
    """A pickle that runs a command when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_malicious_pickle_is_refused_and_not_run(tmp_path):
    trap = tmp_path / "trap"
    torch.save({"conv1.weight": Malicious(str(trap))}, tmp_path / "weights.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Malicious(str(trap)), protocol=2))
    for name in ("weights.pth", "plain.pth"):
        for read in (read_state_dict, botvision.load):
            with pytest.raises(ValueError, match=f"{name} .*readable (weights file|checkpoint)") as error:
                read(tmp_path / name)
            assert "\n" not in str(error.value)
    assert not trap.exists()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("botnet_t3", {"num_classes": 5, "stochastic_depth": 0.1}),
        ("resnet50_nl_c4", {"features_only": True, "depths": (1, 1, 2, 1)}),
        ("botnet50", {"attention": "qr_relative", "input_size": (64, 96), "in_channels": 1}),
        ("senet_s2", {"num_classes": 0, "norm": "frozen", "stage_widths": (8, 16, 24, 40)}),
    ],
)
def test_a_saved_model_needs_nothing_else(tmp_path, name, arguments):
    torch.manual_seed(0)
    model = wake(create_model(name, **(SMALL | arguments)))
    path = tmp_path / "new" / "model.weights"  # whatever it is called
    botvision.save(model, path)
    loaded = botvision.load(path)
    assert loaded.config == model.config and not loaded.training
    x = torch.randn(1, model.config.in_channels, 70, 97)
    for ours, theirs in zip(loaded(x), model(x), strict=True):
        assert torch.equal(ours, theirs)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["botvision"])["config"]["depths"] == list(model.config.depths)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    botvision.save(create_model("resnet50", **SMALL), path)
    before = path.read_bytes()

    def half_written(tensors, target, metadata):
        target.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr("botvision.models.saving.save_file", half_written)
    with pytest.raises(OSError, match="no space left"):
        botvision.save(create_model("resnet50", **SMALL), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def description(**changes):
    config = {"depths": [1, 1, 1, 2], "width": 8} | changes
    return {"botvision": json.dumps({"config": config, "num_classes": 2, "features_only": False})}


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "no configuration"),
        ({"botvision": "not json"}, "no configuration"),
        (description(windows=7), "no configuration of this version.*windows"),
        (description(heads=0), "heads: .*1, got 0"),
        (description(), "do not fit its own configuration"),
    ],
)
def test_a_file_without_a_usable_configuration_is_refused(tmp_path, metadata, message):
    path = tmp_path / "model.safetensors"
    save_file({"conv1.weight": torch.zeros(1)}, path, metadata=metadata)
    with pytest.raises(ValueError, match=message) as error:
        botvision.load(path)
    assert "\n" not in str(error.value)


def test_missing_and_damaged_files_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"absent\.pth"):
        read_state_dict(tmp_path / "absent.pth")
    damaged = tmp_path / "damaged.safetensors"
    botvision.save(create_model("resnet50", **SMALL), damaged)
    damaged.write_bytes(damaged.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"damaged\.safetensors .*readable weights file"):
        botvision.load(damaged)


def test_configurations_of_the_catalogue_are_what_they_say():
    assert model_config("botnet50_s1").c5_stride == 1
    assert model_config("botnet_t7", input_size=512).input_size == 512


@pytest.mark.parametrize("channels", [1, 2, 4, 5, 13])
def test_a_first_convolution_of_rgb_is_adapted_as_timm_does(channels):
    theirs = torchvision.models.resnet50(weights=None).state_dict()
    model = create_model("botnet50", in_chans=channels)
    report = load_weights(model, theirs)
    assert report.adapted == ["conv1.weight"]
    expected = timm.models.adapt_input_conv(channels, theirs["conv1.weight"])
    assert torch.allclose(model.conv1.weight, expected, atol=1e-7)
    back = load_weights(create_model("botnet50", in_chans=channels), model.state_dict())
    assert not back.adapted
    with pytest.raises(UserError, match=r"conv1\.weight is"):
        load_weights(create_model("botnet50", in_chans=channels + 3), model.state_dict())
