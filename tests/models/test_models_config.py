"""What can be asked for, and what is refused in one line."""

import json

import pytest
import torch

from botvision.models import CATALOGUE, NetworkConfig, create_model

SMALL = {"width": 8, "depths": (1, 1, 2, 2)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 3}, "heads: .* c5, got 3 heads and 512"),
        ({"attention": "qr"}, "attention: .*'qk.qr_absolute'.*got 'qr'"),
        ({"attention_in": ("c6",)}, "attention_in: .*'c5'.*got 'c6'"),
        ({"insert_in": ("c1",)}, "insert_in: .*got 'c1'"),
        ({"insert_in": ("c4",), "depths": (1, 1, 1, 1)}, "insert_in: c4 .*2 blocks.* 1"),
        ({"insert": "se"}, "insert: .*'bot' or 'nonlocal', got 'se'"),
        ({"spatial": {"c5": "qr_relativ"}}, "spatial: .*'qr_relativ'.*c5.*qr_relative"),
        ({"spatial": {"c6": "conv"}}, "spatial: .*c5, got 'c6'"),
        ({"spatial": "conv"}, "spatial: .*got 'conv'"),
        ({"spatial": {"c4": "qk"}, "heads": 24}, "heads: .*c4, got 24 heads and 256"),
        ({"depths": (3, 4, 6)}, r"depths: .*got \(3, 4, 6\)"),
        ({"depths": (3, 4, 0, 3)}, "depths: .*1, got 0"),
        ({"depths": 5}, "depths: .*got 5"),
        ({"depths": (1, 1, 1, 1.5)}, "depths.*got 1.5"),
        ({"stage_widths": (8, 16, 32)}, r"stage_widths: .*\(8, 16, 32\)"),
        ({"stage_widths": "8888"}, "stage_widths: .*'8888'"),
        ({"stage_widths": ()}, r"stage_widths: .*got \(\)"),
        ({"output_stride": 4}, "output_stride: .*8, 16 or 32, got 4"),
        ({"c5_stride": 3}, "c5_stride: .*1 or 2, got 3"),
        ({"norm": "layer"}, "norm: .*'frozen' or 'group', got 'layer'"),
        ({"norm": "group", "width": 24}, "norm: .*32, got 24"),
        ({"activation": "gelu"}, "activation: .*'silu', got 'gelu'"),
        ({"dropout": 1.5}, "dropout.*got 1.5"),
        ({"dropout": None}, "dropout: .*got None"),
        ({"stochastic_depth": -0.1}, "stochastic_depth: .*0, got -0.1"),
        ({"se_ratio": "x"}, "se_ratio: .*got 'x'"),
        ({"in_channels": 0}, "in_channels: .*1, got 0"),
        ({"heads": "four"}, "heads: .*got 'four'"),
        ({"width": 16.5}, "width: .*got 16.5"),
        ({"input_size": 0}, "input_size: .*1.*got 0"),
        ({"input_size": "640"}, "input_size: .*got '640'"),
        ({"input_size": 224.5}, "input_size: .*got 224.5"),
        ({"input_size": (64, 96, 3)}, r"input_size: .*\(height, width\), got \(64, 96, 3\)"),
        ({"input_size": (64, 0)}, r"input_size: .*got \(64, 0\)"),
        ({"num_classes": -1}, "num_classes: .*0, got -1"),
        ({"num_classes": None}, "num_classes: .*got None"),
        ({"widht": 8}, "widht: .*width"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(changes, message):
    with pytest.raises(ValueError, match=message) as error:
        create_model("botnet50", **changes)
    assert "\n" not in str(error.value)


def test_unknown_models_are_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"unknown model 'botnet-50'; did you mean .*botnet50"):
        create_model("botnet-50")
    for name in (None, []):
        with pytest.raises(ValueError, match="unknown model"):
            create_model(name)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 31, 64), "32x32 pixels, got 31x64"),
        ((1, 4, 64, 64), r"images .*\(B, 3, H, W\), got shape \(1, 4, 64, 64\)"),
        ((3, 64, 64), r"images .*\(B, 3, H, W\)"),
    ],
)
def test_images_that_do_not_fit_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        create_model("resnet50", **SMALL)(torch.zeros(shape))


def test_lists_from_a_configuration_file_are_as_good_as_tuples():
    lists = NetworkConfig(depths=[1, 1, 2, 2], attention_in=["c5"], insert_in=["c4"], input_size=[64, 96])
    assert lists == NetworkConfig(depths=(1, 1, 2, 2), attention_in=("c5",), insert_in=("c4",), input_size=(64, 96))


@pytest.mark.parametrize("config", [entry.config for entry in CATALOGUE.values()], ids=list(CATALOGUE))
def test_a_configuration_comes_back_from_json(config):
    changed = config.replace(spatial={"c4": "qk"}, input_size=(64, 96), stage_widths=(8, 16, 32, 64))
    for one in (config, changed):
        assert NetworkConfig(**json.loads(json.dumps(one.plain()))) == one


@pytest.mark.parametrize(
    "changes",
    [
        {"attention_in": ("c2", "c3", "c4", "c5"), "heads": 2},
        {"attention_in": ("c4", "c5"), "output_stride": 16},
        {"stage_widths": (8, 24, 40, 56), "heads": 8},
        {"insert_in": ("c3", "c4"), "depths": (1, 2, 2, 1)},
        {"norm": "group", "width": 32},
        {"norm": "frozen", "activation": "silu", "se_ratio": 0.25},
        {"stochastic_depth": 0.5, "dropout": 0.5, "in_channels": 5},
        {"c5_stride": 1, "output_stride": 8},
        {"spatial": {"c3": "qk", "c5": "qr_relative"}},
    ],
)
def test_whatever_can_be_asked_for_learns(changes):
    torch.manual_seed(0)
    model = create_model("botnet50", **(SMALL | {"num_classes": 3} | changes))
    logits = model(torch.randn(2, model.config.in_channels, 65, 97))
    assert logits.shape == (2, 3)
    logits.square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    features = create_model("botnet50", features_only=True, **(SMALL | changes))
    maps = features(torch.randn(1, model.config.in_channels, 65, 97))
    assert [out.shape[1] for out in maps] == list(model.config.channels)
    for out, reduction in zip(maps, model.config.reductions, strict=True):
        assert out.shape[2:] == (-(-65 // reduction), -(-97 // reduction))


def test_one_stage_is_as_good_as_a_tuple_of_one():
    assert NetworkConfig(depths=(1, 1, 2, 2), attention_in="c5", insert_in="c4") == NetworkConfig(
        depths=(1, 1, 2, 2), attention_in=("c5",), insert_in=("c4",)
    )


def test_tables_are_made_for_the_map_that_arrives_at_an_oblong_input_size():
    model = create_model("botnet50", input_size=(65, 200), attention="qk+qr_absolute", **SMALL)
    with torch.no_grad():
        maps = model.forward_maps(torch.zeros(1, 3, 65, 200))
    first, second = model.layer4[0].mhsa, model.layer4[1].mhsa
    assert (len(first.abs_height), len(first.abs_width)) == tuple(maps[2].shape[2:]) == (5, 13)
    assert (len(second.abs_height), len(second.abs_width)) == tuple(maps[3].shape[2:]) == (3, 7)


@pytest.mark.parametrize("changes", [{"attention": "none"}, {"spatial": {"c5": "conv"}}])
def test_a_botnet_without_attention_is_the_resnet(changes):
    torch.manual_seed(0)
    model, resnet = create_model("botnet50", **changes, **SMALL), create_model("resnet50", **SMALL)
    model.load_state_dict(resnet.state_dict(), strict=True)
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(model.eval()(x), resnet.eval()(x))


def test_a_resnet_with_attention_is_the_botnet():
    torch.manual_seed(0)
    model = create_model("resnet50", spatial={"c5": "qk+qr_absolute"}, **SMALL)
    botnet = create_model("botnet50", attention="qk+qr_absolute", **SMALL)
    model.load_state_dict(botnet.state_dict(), strict=True)
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(model.eval()(x), botnet.eval()(x))


def test_stochastic_depth_grows_from_nothing_to_its_rate():
    def rates(model):
        layers = (model.layer1, model.layer2, model.layer3, model.layer4)
        return [getattr(block.drop_path, "p", 0.0) for layer in layers for block in layer]

    assert set(rates(create_model("resnet50", **SMALL))) == {0.0}
    model = create_model("resnet50", stochastic_depth=0.2, insert_in="c4", width=8, depths=(1, 1, 2, 1))
    assert rates(model) == pytest.approx([0, 0.04, 0.08, 0.12, 0.16, 0.2])


def test_inserted_blocks_leave_the_names_of_a_resnet():
    resnet = set(create_model("resnet50", **SMALL).state_dict())
    for name in ("resnet50_nl_c4", "resnet50_bot_c4", "resnet50_bot_c4c5"):
        model = create_model(name, **SMALL)
        assert all(".inserted." in key for key in set(model.state_dict()) - resnet)
        assert resnet <= set(model.state_dict())
        assert [key for key, _ in model.layer3.named_children()] == ["0", "inserted", "1"]
