"""What can be asked for, and what is refused in one line."""

import pytest
import torch

from botvision.models import CATALOGUE, NetworkConfig, create_model
from botvision.models.plan import plan_stages

SMALL = {"width": 8, "depths": (1, 1, 2, 2)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 3}, "heads must divide the width of c5: 3 heads, 512 wide"),
        ({"attention": "qr"}, "attention must be one of none, qk, qr_relative.*got 'qr'"),
        ({"attention_in": ("c6",)}, "attention_in has 'c6', the stages are c2, c3, c4, c5"),
        ({"insert_in": ("c1",)}, "insert_in has 'c1'"),
        ({"insert_in": ("c4",), "depths": (1, 1, 1, 1)}, "insert_in has 'c4', which needs 2 blocks"),
        ({"insert": "se"}, "insert must be one of bot, nonlocal"),
        ({"depths": (3, 4, 6)}, "depths must be 4 numbers"),
        ({"depths": (3, 4, 0, 3)}, "depths must be 4 numbers of blocks, each at least 1"),
        ({"stage_widths": (8, 16, 32)}, "stage_widths must be 4 numbers of channels"),
        ({"output_stride": 4}, "output_stride must be one of 8, 16, 32, got 4"),
        ({"c5_stride": 3}, "c5_stride must be one of 1, 2, got 3"),
        ({"norm": "layer"}, "norm must be one of batch, frozen, group, got 'layer'"),
        ({"norm": "group", "width": 24}, "group norm needs widths divisible by 32"),
        ({"activation": "gelu"}, "activation must be one of relu, silu"),
        ({"dropout": 1.5}, "dropout must be at least 0 and below 1"),
        ({"stochastic_depth": -0.1}, "stochastic_depth must be at least 0"),
        ({"in_channels": 0}, "in_channels must be at least 1"),
        ({"input_size": 0}, "input_size must be at least 1"),
        ({"input_size": "640"}, "input_size must be at least 1, a whole number .*got '640'"),
        ({"input_size": 224.5}, "input_size must be .*got 224.5"),
        ({"input_size": (64, 96, 3)}, r"input_size must be .*\(height, width\), got \(64, 96, 3\)"),
        ({"input_size": (64, 0)}, "input_size must be"),
        ({"depths": 5}, "depths must be 4 numbers of blocks, each at least 1, got 5"),
        ({"depths": (1, 1, 1, 1.5)}, "depths must be 4 numbers"),
        ({"stage_widths": "8888"}, "stage_widths must be 4 numbers"),
        ({"stage_widths": ()}, "stage_widths must be 4 numbers"),
        ({"heads": "4"}, "heads must be at least 1, a whole number, got '4'"),
        ({"width": 16.0}, "width must be at least 1, a whole number, got 16.0"),
        ({"c5_stride": 2.0}, "c5_stride must be"),
        ({"se_ratio": "x"}, "se_ratio must be at least 0 and below 1, got 'x'"),
        ({"dropout": None}, "dropout must be at least 0"),
        ({"attention_in": 5}, "attention_in must be names of stages, got 5"),
        ({"attention_in": "c6"}, "attention_in has 'c6'"),
        ({"num_classes": -1}, "num_classes must be a whole number, at least 0, got -1"),
        ({"num_classes": None}, "num_classes must be"),
        ({"widht": 8}, "unknown model field 'widht'; did you mean width"),
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
        ((1, 3, 31, 64), "at least 32x32 pixels, got 31x64"),
        ((1, 4, 64, 64), r"images must be \(B, 3, H, W\), got shape \(1, 4, 64, 64\)"),
        ((3, 64, 64), r"images must be \(B, 3, H, W\)"),
    ],
)
def test_images_that_do_not_fit_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        create_model("resnet50", **SMALL)(torch.zeros(shape))


def test_lists_from_a_configuration_file_are_as_good_as_tuples():
    config = NetworkConfig([1, 1, 2, 2], attention_in=["c5"], insert_in=["c4"], stage_widths=[8, 16, 32, 64])
    assert hash(config) == hash(NetworkConfig((1, 1, 2, 2), ("c5",), insert_in=("c4",), stage_widths=(8, 16, 32, 64)))


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
    assert NetworkConfig((1, 1, 2, 2), "c5", insert_in="c4") == NetworkConfig((1, 1, 2, 2), ("c5",), insert_in=("c4",))


def test_tables_are_made_for_the_map_that_arrives_at_an_oblong_input_size():
    model = create_model("botnet50", input_size=(65, 200), attention="qk+qr_absolute", **SMALL)
    with torch.no_grad():
        maps = model.forward_maps(torch.zeros(1, 3, 65, 200))
    first, second = model.layer4[0].mhsa, model.layer4[1].mhsa
    assert (len(first.abs_height), len(first.abs_width)) == tuple(maps[2].shape[2:]) == (5, 13)
    assert (len(second.abs_height), len(second.abs_width)) == tuple(maps[3].shape[2:]) == (3, 7)


def test_attention_none_is_the_resnet():
    torch.manual_seed(0)
    model, resnet = create_model("botnet50", attention="none", **SMALL), create_model("resnet50", **SMALL)
    model.load_state_dict(resnet.state_dict(), strict=True)
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(model.eval()(x), resnet.eval()(x))


def test_stochastic_depth_grows_from_nothing_to_its_rate():
    blocks = [block for stage in plan_stages(CATALOGUE["resnet50"].config) for block in stage]
    assert {block.drop_path for block in blocks} == {0.0}
    config = NetworkConfig((1, 1, 2, 1), stochastic_depth=0.2, insert_in=("c4",))
    rates = [block.drop_path for stage in plan_stages(config) for block in stage]
    assert rates == pytest.approx([0, 0.04, 0.08, 0.12, 0.16, 0.2])


def test_inserted_blocks_leave_the_names_of_a_resnet():
    resnet = set(create_model("resnet50", **SMALL).state_dict())
    for name in ("resnet50_nl_c4", "resnet50_bot_c4", "resnet50_bot_c4c5"):
        model = create_model(name, **SMALL)
        assert all(".inserted." in key for key in set(model.state_dict()) - resnet)
        assert resnet <= set(model.state_dict())
        assert [key for key, _ in model.layer3.named_children()] == ["0", "inserted", "1"]
