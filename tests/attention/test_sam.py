"""The recipe for SAM's image encoder: the same numbers as timm's, through the operator."""

import copy
import importlib.util
from pathlib import Path

import pytest
import torch

timm = pytest.importorskip("timm")

RECIPE = Path(__file__).parents[2] / "examples" / "sam_relative_attention.py"


@pytest.fixture(scope="module")
def recipe():
    spec = importlib.util.spec_from_file_location("sam_relative_attention", RECIPE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def encoder(**changes) -> torch.nn.Module:
    """A block with windows, padded, and a global one; on an oblong map of more than 400 positions, which are blocks."""
    torch.manual_seed(0)
    settings = {"img_size": (320, 384), "depth": 2, "embed_dim": 32, "num_heads": 2, "global_attn_indexes": (1,)}
    model = timm.create_model("samvit_base_patch16", pretrained=False, **{**settings, **changes})
    for name, parameter in model.named_parameters():
        if "rel_pos" in name:
            torch.nn.init.normal_(parameter)  # timm's are zero
    return model


def test_the_encoder_with_our_operator_gives_timms_outputs_and_gradients(recipe):
    model = encoder()
    ours = recipe.replace_attention(copy.deepcopy(model))
    assert [type(block.attn).__name__ for block in ours.blocks] == ["RelativeAttention"] * 2
    assert model.state_dict().keys() == ours.state_dict().keys()
    x = torch.randn(2, 3, 320, 384)
    found, wanted = ours.forward_features(x), model.forward_features(x)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    parameters = {name: value for name, value in ours.named_parameters() if not name.startswith("head")}
    weights = torch.randn_like(found)
    found_grads = torch.autograd.grad(found, list(parameters.values()), weights)
    wanted_grads = torch.autograd.grad(wanted, [model.get_parameter(name) for name in parameters], weights)
    for name, a, b in zip(parameters, found_grads, wanted_grads, strict=True):
        assert (a - b).abs().max() <= 1e-5 * b.abs().max(), name


def test_positions_matter_to_the_encoder(recipe):
    model = recipe.replace_attention(encoder())
    x = torch.randn(1, 3, 320, 384)
    with torch.no_grad():
        before = model.forward_features(x)
        model.blocks[1].attn.rel_pos_h.copy_(model.blocks[1].attn.rel_pos_h.flip(0))
        assert (model.forward_features(x) - before).abs().max() > 1e-2


def test_dropout_of_attention_weights_is_refused(recipe):
    model = encoder()
    model.blocks[0].attn.attn_drop.p = 0.1
    with pytest.raises(ValueError, match="attn_drop"):
        recipe.replace_attention(model)
