"""Lambda layers against a sum written out in float64, timm's layer, and the published size of a network."""

import pytest
import timm.layers.lambda_layer
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from botvision.layers import Bottleneck
from botvision.layers.lambda_layer import LambdaLayer
from botvision.models import create_model, load_weights
from botvision.models.counting import count_multiply_adds, count_parameters

LAMBDAS = ["lambda", "lambda_global"]
SMALL = {"width": 8, "depths": (1, 1, 1, 2), "num_classes": 4}


def wake(module):
    """Give every batch norm values of its own, so that no branch of a new network is zero."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight, layer.bias, layer.running_mean):
                nn.init.normal_(tensor)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    return module.eval()


def written_out(layer, x, embedding):
    """The layer's output by its definition; ``embedding(dy, dx)`` gives E[dy, dx] or None outside the context."""
    height, width = x.shape[2:]
    places = [(row, column) for row in range(height) for column in range(width)]
    q, k, v = layer.qkv(x).split(layer.widths, dim=1)
    q = layer.norm_q(q).unflatten(1, (layer.heads, -1))
    v, k = layer.norm_v(v), k.flatten(2).softmax(2).unflatten(2, (height, width))
    out = torch.zeros_like(x)
    for row, column in places:
        summed = torch.zeros(len(x), k.shape[1], v.shape[1], dtype=x.dtype)
        for other_row, other_column in places:
            key = k[:, :, other_row, other_column]
            position = embedding(other_row - row, other_column - column)
            vector = key if position is None else key + position
            summed += vector[:, :, None] * v[:, None, :, other_row, other_column]
        for head in range(layer.heads):
            applied = torch.einsum("bkv,bk->bv", summed, q[:, head, :, row, column])
            out[:, head * v.shape[1] : (head + 1) * v.shape[1], row, column] = applied
    return out


@pytest.mark.parametrize("size", [(4, 5), (7, 3), (1, 6)])
def test_local_context_is_its_sum(size):
    torch.manual_seed(0)
    layer = wake(LambdaLayer(8, heads=2, window=3)).double()
    x = torch.randn(2, 8, *size, dtype=torch.float64)

    def embedding(dy, dx):
        return layer.positions.weight[:, 0, dy + 1, dx + 1] if max(abs(dy), abs(dx)) <= 1 else None

    torch.testing.assert_close(layer(x), written_out(layer, x, embedding), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("size", [(4, 5), (3, 5), (1, 4)])
def test_global_context_is_its_sum_and_a_smaller_map_takes_the_middle_of_the_tables(size):
    torch.manual_seed(0)
    layer = wake(LambdaLayer(8, heads=2, window=None, size=(4, 5))).double()
    x = torch.randn(2, 8, *size, dtype=torch.float64)
    torch.testing.assert_close(
        layer(x), written_out(layer, x, lambda dy, dx: layer.rel_height[dy + 3] + layer.rel_width[dx + 4])
    )


def test_local_context_is_timms():
    torch.manual_seed(0)
    theirs = wake(timm.layers.lambda_layer.LambdaLayer(24, stride=2, num_heads=2, r=5))
    nn.init.zeros_(theirs.conv_lambda.bias)
    ours = LambdaLayer(24, heads=2, window=5).eval()
    state = theirs.state_dict()
    state["positions.weight"] = state.pop("conv_lambda.weight")[..., 0]
    del state["conv_lambda.bias"]
    ours.load_state_dict(state, strict=True)
    x = torch.randn(2, 24, 6, 10)
    torch.testing.assert_close(F.avg_pool2d(ours(x), 2), theirs(x), rtol=1e-4, atol=1e-4)


def test_a_network_of_lambda_layers_has_the_published_size():
    """LambdaNetworks, ResNet-50 with |k| = 16, 4 heads, 23 x 23: 15.0 million parameters."""
    spatial = dict.fromkeys(("c2", "c3", "c4", "c5"), "lambda")
    with torch.device("meta"):
        model = create_model("resnet50", spatial=spatial)
    assert count_parameters(model) / 1e6 == pytest.approx(15.0, abs=0.05)


@pytest.mark.parametrize("spatial", LAMBDAS)
def test_multiply_adds_are_those_pytorch_counts(spatial):
    with torch.device("meta"):
        model = create_model("resnet50", spatial={"c4": spatial, "c5": spatial}, **SMALL).eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, 3, 75, 130))
    assert count_multiply_adds(model, 75, 130) == counter.get_total_flops() / 2


@pytest.mark.parametrize("spatial", LAMBDAS)
def test_a_strided_block_pools_after_the_layer(spatial):
    torch.manual_seed(0)
    block = wake(Bottleneck(24, 8, 2, spatial, size=(7, 9), heads=2))
    x = torch.randn(2, 24, 7, 9)
    out = block.bn1(block.conv1(x)).relu()
    out = F.avg_pool2d(block.lambda_layer(out), 2, ceil_mode=True, count_include_pad=False)
    out = block.bn3(block.conv3(block.bn2(out).relu()))
    torch.testing.assert_close(block(x), (out + block.downsample(x)).relu())


@pytest.mark.parametrize("spatial", LAMBDAS)
def test_a_network_learns_two_images(spatial):
    torch.manual_seed(0)
    model = create_model("botnet50", spatial={"c5": spatial}, **SMALL)
    images, labels = torch.randn(2, 3, 65, 97), torch.tensor([0, 3])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    losses = []
    for _ in range(15):
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def test_half_precision_computes_in_half_precision():
    torch.manual_seed(0)
    for window, size in ((3, None), (None, (6, 6))):
        layer = LambdaLayer(16, heads=2, window=window, size=size)
        x = torch.randn(1, 16, 6, 6)
        with torch.autocast("cpu", torch.bfloat16):
            half = layer(x)
        assert half.dtype == torch.bfloat16 and half.is_contiguous(memory_format=torch.channels_last)
        exact = layer(x)
        assert (half - exact).abs().max() < 0.05 * exact.abs().max()


def test_weights_for_another_size_are_adapted():
    torch.manual_seed(0)
    small, large = (
        create_model("botnet50", spatial={"c5": "lambda_global"}, input_size=side, **SMALL).eval() for side in (64, 160)
    )
    report = load_weights(small, wake(large).state_dict())
    assert {name.rpartition(".")[2] for name in report.adapted} == {"rel_height", "rel_width"}
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(small(x), large(x))


def test_what_cannot_be_built_is_refused():
    with pytest.raises(ValueError, match=r"heads: .*3 heads and 8 channels"):
        LambdaLayer(8, heads=3)
    with pytest.raises(ValueError, match=r"^size: "):
        LambdaLayer(8, window=None)
    with pytest.raises(ValueError, match=r"heads: .*c5"):
        create_model("botnet50", attention_in=(), spatial={"c5": "lambda"}, heads=3)
