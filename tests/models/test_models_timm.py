"""The catalogue inside timm, and timm's BoTNets with our attention layer."""

import copy

import pytest
import timm
import torch
from timm.models import group_parameters
from torch import nn

import botvision.timm
from botvision.models import CATALOGUE, create_model

SMALL = {"width": 8, "depths": (1, 1, 2, 2)}


def lively(model):
    """Normalisation of random strength, so that no layer of a new model is silent."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.3)
    return model.eval()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["botnet26t_256", "botnet50ts_256", "sebotnet33ts_256", "eca_botnext26ts_256"])
def test_converted_models_keep_their_outputs_and_take_any_size(name):
    torch.manual_seed(0)
    theirs = lively(timm.create_model(name))
    ours = botvision.timm.convert(copy.deepcopy(theirs))
    x = torch.randn(2, 3, 256, 256)
    with torch.no_grad():
        expected, found = theirs.forward_features(x), ours.forward_features(x)
        assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
        expected, found = theirs(x), ours(x)
        assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
        for size in [(192, 320), (201, 333)]:
            assert ours(torch.randn(1, 3, *size)).shape == (1, 1000)
    with pytest.raises(AssertionError):
        theirs(torch.randn(1, 3, 192, 320))


@pytest.mark.parametrize("scale_pos_embed", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_converted_layer_has_timms_output_and_gradient(scale_pos_embed, stride):
    torch.manual_seed(0)
    theirs = nn.Sequential(
        botvision.timm.BottleneckAttn(
            12, 8, (6, 10), stride, num_heads=2, dim_head=5, qkv_bias=True, scale_pos_embed=scale_pos_embed
        )
    )
    nn.init.normal_(theirs[0].pos_embed.height_rel)
    ours = botvision.timm.convert(copy.deepcopy(theirs))
    x = torch.randn(2, 12, 6, 10, requires_grad=True)
    expected, found = theirs(x), ours(x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    upstream = torch.randn_like(expected)
    gradients = [torch.autograd.grad(out, x, upstream)[0] for out in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)


def test_a_model_without_timms_attention_is_refused():
    with pytest.raises(ValueError, match=r"BottleneckAttn inside.* Linear"):
        botvision.timm.convert(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"BottleneckAttn inside.* BottleneckAttn"):
        botvision.timm.convert(botvision.timm.BottleneckAttn(8, 8, (4, 4), num_heads=2))


def test_the_whole_catalogue_is_registered():
    assert set(timm.list_models("botvision_*")) == {f"botvision_{name}" for name in CATALOGUE}
    model = timm.create_model("botvision_botnet_t5", num_classes=7, in_chans=1, drop_path_rate=0.1, **SMALL)
    assert model.pretrained_cfg["input_size"] == (3, 256, 256)
    assert model.pretrained_cfg["architecture"] == "botvision_botnet_t5"
    assert model.config.stochastic_depth == 0.1
    assert model(torch.randn(2, 1, 65, 97)).shape == (2, 7)
    oblong = timm.create_model("botvision_botnet50", img_size=(64, 96), **SMALL)
    assert [len(table) for table in oblong.layer4[0].mhsa.tables()] == [2 * 4 - 1, 2 * 6 - 1]
    with pytest.raises(ValueError, match=r"num_classes: .*got -1"):
        timm.create_model("botvision_resnet50", num_classes=-1, **SMALL)
    with pytest.raises(RuntimeError, match="No pretrained weights"):
        timm.create_model("botvision_resnet50", pretrained=True)


def test_a_timm_model_is_the_same_network():
    torch.manual_seed(0)
    theirs = timm.create_model("botvision_botnet50", num_classes=5, **SMALL)
    ours = create_model("botnet50", num_classes=5, **SMALL).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(1, 3, 70, 97)
    torch.testing.assert_close(theirs.eval()(x), ours(x))


@pytest.mark.parametrize("out_indices", [(0, 1, 2, 3, 4), (2, 4)])
def test_features_only_gives_timms_features(out_indices):
    model = timm.create_model("botvision_botnet50_s1", features_only=True, out_indices=out_indices, **SMALL)
    channels, reductions = [8, 32, 64, 128, 256], [2, 4, 8, 16, 16]
    assert model.feature_info.channels() == [channels[i] for i in out_indices]
    assert model.feature_info.reduction() == [reductions[i] for i in out_indices]
    maps = model(torch.randn(1, 3, 96, 64))
    for out, channel, reduction in zip(
        maps, model.feature_info.channels(), model.feature_info.reduction(), strict=True
    ):
        assert out.shape == (1, channel, 96 // reduction, 64 // reduction)


@pytest.mark.parametrize("out_indices", [(0, 1, 2, 3, 4), (2, 4)])
def test_the_getter_gives_the_features_of_timms_own_walk(out_indices):
    torch.manual_seed(0)
    wanted = {"features_only": True, "out_indices": out_indices, **SMALL}
    walk = lively(timm.create_model("botvision_botnet50", **wanted))
    getter = timm.create_model("botvision_botnet50", feature_cls="getter", **wanted).eval()
    getter.model.load_state_dict(walk.state_dict(), strict=False)
    x = torch.randn(1, 3, 70, 97)
    for ours, theirs in zip(getter(x), walk(x), strict=True):
        torch.testing.assert_close(ours, theirs)
    last, maps = getter.model.forward_intermediates(x, indices=2)
    assert len(maps) == 2 and torch.equal(maps[-1], last)
    _, every = getter.model.forward_intermediates(x)
    chosen = getter.model.forward_intermediates(x, indices=[0, -1], intermediates_only=True)
    assert len(every) == 5
    for ours, theirs in zip(chosen, (every[0], every[4]), strict=True):
        torch.testing.assert_close(ours, theirs)
    with pytest.raises(IndexError):
        getter.model.forward_intermediates(x, indices=[5])
    with pytest.raises(ValueError, match=r"output_fmt: .*NCHW"):
        getter.model.forward_intermediates(x, output_fmt="NHWC")


@pytest.mark.parametrize("arguments", [{}, {"features_only": True}, {"features_only": True, "feature_cls": "getter"}])
def test_images_that_do_not_fit_are_refused(arguments):
    model = copy.deepcopy(timm.create_model("botvision_resnet50", **SMALL, **arguments))
    with pytest.raises(ValueError, match="32x32 pixels, got 31x64"):
        model(torch.zeros(1, 3, 31, 64))
    with pytest.raises(ValueError, match=r"images .*\(B, 3, H, W\)"):
        model(torch.zeros(1, 4, 64, 64))


def test_the_classifier_can_be_changed():
    model = timm.create_model("botvision_resnet50", **SMALL).eval()
    x = torch.randn(2, 3, 64, 96)
    features = model.forward_features(x)
    assert features.shape == (2, 256, 2, 3)
    torch.testing.assert_close(model(x), model.forward_head(features))
    torch.testing.assert_close(model.forward_head(features, pre_logits=True), features.mean((2, 3)))
    model.reset_classifier(4)
    assert model.get_classifier().out_features == 4 and model(x).shape == (2, 4)
    model.reset_classifier(3, "catavgmax")
    assert model(x).shape == (2, 3) and model.head_hidden_size == 512
    model.reset_classifier(0, "")
    torch.testing.assert_close(model(x), features)


def test_a_model_with_the_average_is_saved_and_one_with_another_pooling_is_refused(tmp_path):
    model = timm.create_model("botvision_resnet50", num_classes=3, **SMALL).eval()
    botvision.save(model, tmp_path / "model")
    x = torch.randn(1, 3, 64, 96)
    torch.testing.assert_close(botvision.load(tmp_path / "model")(x), model(x))
    for pooling in ("max", "catavgmax", ""):
        model.reset_classifier(3 if pooling else 0, pooling)
        with pytest.raises(ValueError, match=f"global_pool='{pooling}' cannot be saved"):
            botvision.save(model, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_checkpoint_trained_at_another_size_starts_a_model(tmp_path):
    torch.manual_seed(0)
    trained = timm.create_model("botvision_botnet50", **SMALL).eval()
    torch.save(trained.state_dict(), tmp_path / "trained.pth")
    larger = timm.create_model("botvision_botnet50", img_size=320, checkpoint_path=tmp_path / "trained.pth", **SMALL)
    x = torch.randn(1, 3, 320, 320)
    torch.testing.assert_close(larger.eval()(x), trained(x))


def test_gradient_checkpointing_keeps_the_gradients():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 64, 64)
    for arguments in ({"num_classes": 3}, {"features_only": True}):
        model = timm.create_model("botvision_botnet50", **SMALL, **arguments)
        gradients = []
        for enable in (False, True):
            model.set_grad_checkpointing(enable)
            model.zero_grad()
            out = model(x)
            out = out if isinstance(out, torch.Tensor) else out[-1]
            out.square().sum().backward()
            gradients.append([parameter.grad.clone() for parameter in model.parameters()])
        for plain, again in zip(*gradients, strict=True):
            torch.testing.assert_close(again, plain)


def test_timms_parameter_groups_find_every_block_and_spare_the_tables():
    model = timm.create_model("botvision_resnet50_bot_c4", **SMALL)
    groups = group_parameters(model, model.group_matcher(), reverse=True)
    order = [groups[f"{name}.conv1.weight"] for name in ("layer2.0", "layer3.0", "layer3.inserted", "layer4.0")]
    assert order == sorted(set(order)) and groups["fc.weight"] == max(groups.values())
    assert model.no_weight_decay() == {f"layer3.inserted.mhsa.rel_{axis}" for axis in ("height", "width")}
