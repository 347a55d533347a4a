"""MHSA2d: each kind of Table 4 against logits written out in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune

from botvision.attention import backend
from botvision.errors import UserError
from botvision.layers import ATTENTION_KINDS, MHSA2d


def dense_attention(layer, x):
    """The layer's output by the whole matrix of logits, from its own weights."""
    height, width = x.shape[2:]
    projected = layer.qkv(x).flatten(2)
    heads, d = layer.heads, layer.head_width
    out_width = layer.widths[-1] // heads
    split = [d * heads] * (len(layer.widths) - 1) + [out_width * heads]
    parts = [part.unflatten(1, (heads, -1)).transpose(2, 3) for part in projected.split(split, dim=1)]
    q, v = parts[0], parts[-1]
    row, column = (axis.flatten() for axis in torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))
    logits = torch.zeros(*q.shape[:3], height * width, dtype=x.dtype)
    if layer.kind.startswith("qk"):
        logits = logits + q @ parts[1].transpose(2, 3)
    if layer.kind.endswith("relative"):
        vertical = layer.rel_height[row[None] - row[:, None] + height - 1]
        horizontal = layer.rel_width[column[None] - column[:, None] + width - 1]
        logits = logits + torch.einsum("bnid,ijd->bnij", q, vertical + horizontal)
    if layer.kind.endswith("absolute"):
        logits = logits + torch.einsum("bnid,jd->bnij", q, layer.abs_height[row] + layer.abs_width[column])
    out = (logits * d**-0.5).softmax(-1) @ v
    return out.transpose(2, 3).flatten(1, 2).unflatten(2, (height, width))


@pytest.mark.parametrize("kind", ATTENTION_KINDS)
@pytest.mark.parametrize("size", [(6, 6), (3, 7), (24, 25)])  # the last one is computed in blocks
def test_stride_2_is_pooling_of_the_formula(kind, size):
    torch.manual_seed(0)
    layer = MHSA2d(8, size, 2, kind, stride=2).double()
    x = torch.randn(2, 8, *size, dtype=torch.float64, requires_grad=True)
    out = layer(x)
    expected = F.avg_pool2d(dense_attention(layer, x), 2, ceil_mode=True, count_include_pad=False)
    torch.testing.assert_close(out, expected)
    assert out.is_contiguous(memory_format=torch.channels_last)
    upstream = torch.randn_like(expected)
    own, other = (torch.autograd.grad(result, [x, *layer.parameters()], upstream) for result in (out, expected))
    torch.testing.assert_close(own, other)


@pytest.mark.parametrize("kind", ATTENTION_KINDS)
@pytest.mark.parametrize("size", [(5, 5), (3, 7), (1, 6)])
def test_every_kind_is_its_formula(kind, size):
    torch.manual_seed(0)
    layer = MHSA2d(12, size, heads=2, kind=kind, out_channels=8, head_width=5, bias=True).double()
    torch.nn.init.normal_(layer.qkv.bias)
    x = torch.randn(2, 12, *size, dtype=torch.float64)
    torch.testing.assert_close(layer(x), dense_attention(layer, x), rtol=1e-10, atol=1e-10)


def test_the_kinds_differ():
    torch.manual_seed(0)
    x = torch.randn(1, 8, 4, 6)
    outputs = []
    for kind in ATTENTION_KINDS:
        torch.manual_seed(1)
        outputs.append(MHSA2d(8, (4, 6), heads=2, kind=kind)(x))
    assert all((a - b).abs().max() > 1e-3 for i, a in enumerate(outputs) for b in outputs[:i])


@pytest.mark.parametrize("kind", ATTENTION_KINDS)
def test_any_size_goes_through_with_gradients_in_channels_last(kind):
    layer = MHSA2d(8, (7, 7), heads=2, kind=kind).to(memory_format=torch.channels_last)
    for size in [(7, 7), (4, 9), (1, 13), (12, 3)]:
        x = torch.randn(2, 8, *size).contiguous(memory_format=torch.channels_last).requires_grad_()
        out = layer(x)
        assert out.shape == x.shape
        assert out.is_contiguous(memory_format=torch.channels_last)
        out.square().sum().backward()
        assert x.grad.abs().sum() > 0
        assert all(parameter.grad.abs().sum() > 0 for parameter in layer.parameters())
        layer.zero_grad()


def test_a_map_seen_upside_down_with_tables_upside_down_gives_the_output_upside_down():
    torch.manual_seed(0)
    layer = MHSA2d(8, (5, 4), heads=2)
    x = torch.randn(1, 8, 5, 4)
    upright = layer(x)
    with torch.no_grad():
        layer.rel_height.copy_(layer.rel_height.flip(0))
    torch.testing.assert_close(layer(x.flip(2)), upright.flip(2), rtol=1e-4, atol=1e-5)


def test_half_precision_computes_in_half_precision():
    torch.manual_seed(0)
    layer = MHSA2d(16, (6, 6), heads=2)
    x = torch.randn(1, 16, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        half = layer(x)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), layer(x), rtol=0.1, atol=0.05)


@pytest.mark.parametrize("kind", ["qk+qr_relative", "qk+qr_absolute"])
def test_a_state_dict_with_tables_for_another_size_is_adapted_and_says_so(caplog, kind):
    torch.manual_seed(0)
    small, large = (nn.Sequential(MHSA2d(8, size, heads=2, kind=kind)) for size in [(3, 5), (7, 9)])
    state = small.state_dict()
    before = {name: tensor.clone() for name, tensor in state.items()}
    large.load_state_dict(state, strict=True)
    assert caplog.text.count("made for another size") == 1 and caplog.text.count("0.") == 2
    for name, table in large[0].named_parameters(recurse=False):
        expected = F.interpolate(state[f"0.{name}"].T[None], len(table), mode="linear", align_corners=True)[0].T
        torch.testing.assert_close(table.detach(), expected)
    assert all(torch.equal(state[name], before[name]) for name in before)
    caplog.clear()
    large.load_state_dict(large.state_dict(), strict=True)
    assert not caplog.text


@pytest.mark.parametrize("other", [{"heads": 4}, {"out_channels": 16}, {"kind": "qr_relative"}])
def test_a_state_dict_of_another_layer_is_refused(other):
    layer = MHSA2d(8, (3, 5), heads=2)
    with pytest.raises(RuntimeError, match="size mismatch"):
        layer.load_state_dict(MHSA2d(**({"channels": 8, "size": (7, 9), "heads": 2} | other)).state_dict())
    state = layer.state_dict()
    for rows in (0, 4):  # no relative table has an even number
        with pytest.raises(RuntimeError, match="size mismatch for rel_height"):
            layer.load_state_dict(state | {"rel_height": torch.zeros(rows, 4)})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"heads": 3}, "heads: .*divide.* 3 heads and 8 channels"),
        ({"stride": 3}, "stride: .*1 or 2, got 3"),
        ({"kind": "kq"}, "kind: .*qr_relative.*'kq'"),
        ({"size": None}, "size: is missing"),
        ({"heads": 0}, "heads: .*at least 1, got 0"),
        ({"heads": 2.0}, "heads: .*whole number.*2.0"),
        ({"size": 14}, "size.*14"),
        ({"size": (0, 4)}, r"size.*\(0, 4\)"),
        ({"size": (4, 4, 4)}, r"size.*\(4, 4, 4\)"),
    ],
)
def test_what_cannot_be_built_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        MHSA2d(**({"channels": 8, "size": (4, 4)} | arguments))


def test_tables_are_found_by_name_when_something_registers_one_again():
    layer = MHSA2d(8, (6, 6), heads=2)
    x = torch.randn(1, 8, 6, 6)
    before = layer(x)
    prune.identity(layer, "rel_height")
    torch.testing.assert_close(layer(x), before)
    layer.rel_height_mask.zero_()
    assert (layer(x) - before).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"channels": 0}, "^channels: .*at least 1, got 0"),
        ({"out_channels": 0}, "out_channels: .*got 0"),
        ({"head_width": 0}, "head_width: .*got 0"),
        ({"head_width": -3}, "head_width: .*got -3"),
    ],
)
def test_widths_that_cannot_be_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        MHSA2d(**{"channels": 8, "size": (3, 3)} | given)


def test_a_map_without_batch_is_refused():
    with pytest.raises(ValueError, match=r"feature map .*\(B, C, H, W\), got shape \(8, 3, 3\)"):
        MHSA2d(8, (3, 3))(torch.zeros(8, 3, 3))


@pytest.mark.parametrize("kind", ATTENTION_KINDS)
@pytest.mark.parametrize("name", ["reference", "blocks", "folded"])
def test_what_is_in_the_padding_and_how_much_of_it_there_is_changes_nothing(kind, name):
    torch.manual_seed(0)
    layer = MHSA2d(8, (9, 9), heads=2, kind=kind)
    x = torch.randn(3, 8, 9, 9)
    valid_size = torch.tensor([[9, 4], [3, 9], [1, 1]])
    with backend(name):
        found = layer(x, valid_size)
        garbage = x.clone()
        for index, (height, width) in enumerate(valid_size.tolist()):
            garbage[index, :, height:] = 100 * torch.randn(8, 9 - height, 9)
            garbage[index, :, :, width:] = 100 * torch.randn(8, 9, 9 - width)
        again = layer(garbage, valid_size)
    for index, (height, width) in enumerate(valid_size.tolist()):
        inside = found[index, :, :height, :width]
        torch.testing.assert_close(again[index, :, :height, :width], inside, rtol=0, atol=0)
        if kind != "qk+qr_absolute":  # whose tables are stretched over the whole map
            alone = layer(x[index : index + 1, :, :height, :width])[0]
            torch.testing.assert_close(inside, alone, rtol=1e-4, atol=1e-5)


def test_the_size_without_padding_is_compiled_into_one_graph():
    torch.manual_seed(0)
    layer = MHSA2d(8, (6, 6), heads=2)
    x, valid_size = torch.randn(2, 8, 6, 6), torch.tensor([[2, 3], [5, 6]])
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, valid_size), layer(x, valid_size))


@pytest.mark.parametrize("valid_size", [torch.ones(3, 2), torch.ones(2), [[1, 1], [1, 1]]])
def test_a_size_without_padding_that_does_not_fit_is_refused(valid_size):
    with pytest.raises(UserError, match="valid_size"):
        MHSA2d(8, (4, 4), heads=2)(torch.randn(2, 8, 4, 4), valid_size)
