"""Convolutions that keep packed weights: the numbers of plain ones, whatever comes, and nothing hidden from PyTorch."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.profiler import profile
from torch.utils.flop_counter import FlopCounterMode

import botvision
from botvision.models.packing import HAS_BFLOAT16, HAS_OPERATORS, PackedConv2d, pack_convolutions

KINDS = {
    "1x1": nn.Conv2d(16, 24, 1),
    "3x3, stride 2, no bias": nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False),
    "dilated": nn.Conv2d(16, 16, 3, padding=2, dilation=2),
    "groups": nn.Conv2d(16, 32, 3, padding=1, groups=4),
    "depthwise": nn.Conv2d(16, 16, 3, padding=1, groups=16),
    "rectangular": nn.Conv2d(16, 8, (1, 5), stride=(2, 1), padding=(0, 2)),
    "one channel out": nn.Conv2d(16, 1, 1),
}
SHAPES = [(2, 16, 9, 11), (1, 16, 5, 6), (2, 16, 40, 11), (1, 16, 5, 1)]


def packed(layer):
    """A packed copy of a layer, which asks for no gradients."""
    model = nn.Sequential(copy.deepcopy(layer)).requires_grad_(False)
    pack_convolutions(model)
    return model[0]


def is_packed_for(layer, x):
    """Whether oneDNN gets packed weights."""
    with profile() as seen:
        layer(x)
    return "mkldnn::_convolution_pointwise" in {event.key for event in seen.key_averages()}


@pytest.fixture
def layer():
    return packed(KINDS["3x3, stride 2, no bias"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_outputs_are_those_of_float64_and_to_the_bit_the_same_whatever_came_before(kind, memory_format):
    plain, layer = copy.deepcopy(KINDS[kind]).double(), packed(KINDS[kind])
    images = [torch.randn(shape).contiguous(memory_format=memory_format) for shape in SHAPES]
    found = [layer(x) for x in images]
    for out, x in zip(found, images, strict=True):
        torch.testing.assert_close(out, plain(x.double()).float(), rtol=1e-5, atol=1e-5)
    for _ in range(2):
        for out, x in zip(found, images, strict=True):
            assert all(torch.equal(layer(x), out) for _ in range(2))


@pytest.mark.skipif(not HAS_OPERATORS, reason="this PyTorch has no oneDNN operators")
def test_onednn_gets_packed_weights_where_the_user_wants_it(layer):
    assert is_packed_for(layer, torch.randn(1, 16, 8, 8))
    with torch.backends.mkldnn.flags(enabled=False):
        assert not is_packed_for(layer, torch.randn(1, 16, 8, 8))


@pytest.mark.skipif(not HAS_BFLOAT16, reason="this processor has no bfloat16")
def test_bfloat16_is_packed_too(layer):
    layer.bfloat16()
    x = torch.randn(1, 16, 8, 8).bfloat16()
    assert is_packed_for(layer, x)
    wanted = nn.functional.conv2d(x.double(), layer.weight.double(), stride=2, padding=1)
    torch.testing.assert_close(layer(x).double(), wanted, rtol=1e-2, atol=1e-2)


def test_changed_weights_are_packed_again(layer):
    x = torch.randn(1, 16, 8, 8)
    before = layer(x)
    layer.load_state_dict({"weight": 2 * layer.weight})
    for _ in range(2):
        torch.testing.assert_close(layer(x), 2 * before)
    layer.weight = nn.Parameter(layer.weight * 2, requires_grad=False)
    for _ in range(2):
        torch.testing.assert_close(layer(x), 4 * before)
    layer.double()
    torch.testing.assert_close(layer(x.double()).float(), 4 * before)


def test_weights_at_the_address_of_earlier_ones_are_packed_again():
    """Memory that is freed is handed out again: weights that went to bfloat16 and back are often where they were."""
    x = torch.randn(1, 64, 8, 8)
    for _ in range(20):
        layer = packed(nn.Conv2d(64, 64, 3, padding=1))
        layer(x)
        layer.bfloat16()
        layer.float()
        wanted = nn.functional.conv2d(x, layer.weight, layer.bias, padding=1)
        torch.testing.assert_close(layer(x), wanted, rtol=1e-5, atol=1e-5)


def test_gradients_and_transforms_pass_through(layer):
    plain = nn.Conv2d.forward
    x, tangent = torch.randn(1, 16, 8, 8), torch.randn(1, 16, 8, 8)
    layer(x)  # packs its weights
    for_gradient = x.clone().requires_grad_()
    layer(for_gradient).square().sum().backward()
    wanted = torch.func.grad(lambda x: plain(layer, x).square().sum())(x)
    torch.testing.assert_close(for_gradient.grad, wanted)
    torch.testing.assert_close(torch.func.grad(lambda x: layer(x).square().sum())(x), wanted)
    with torch.no_grad():
        found, wanted = (torch.func.jvp(call, (x,), (tangent,))[1] for call in (layer, lambda x: plain(layer, x)))
        torch.testing.assert_close(found, wanted)
        torch.testing.assert_close(torch.func.vmap(layer)(x[None]), plain(layer, x)[None])
    torch.testing.assert_close(torch.jit.trace(layer, x)(2 * x), plain(layer, 2 * x))
    torch.testing.assert_close(torch.fx.symbolic_trace(nn.Sequential(layer))(2 * x), plain(layer, 2 * x))


def test_operations_are_counted_and_autocast_is_obeyed(layer):
    x = torch.randn(1, 16, 8, 8)
    layer(x)
    with FlopCounterMode(display=False) as counter:
        layer(x)
    assert counter.get_total_flops() == 2 * 32 * 4 * 4 * 16 * 9
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16


def test_copies_and_files_do_without_the_packed_weights(layer):
    x = torch.randn(1, 16, 8, 8)
    wanted = layer(x)
    file = io.BytesIO()
    torch.save(layer, file)
    assert len(file.getvalue()) < 2 * 4 * layer.weight.numel()
    file.seek(0)
    for other in (copy.deepcopy(layer), torch.load(file, weights_only=False)):
        for _ in range(2):
            torch.testing.assert_close(other(x), wanted)


def test_it_works_in_inference_mode_too():
    with torch.inference_mode():
        plain = nn.Conv2d(4, 4, 3)
        layer, x = packed(plain), torch.randn(1, 4, 5, 5)
        for _ in range(2):
            torch.testing.assert_close(layer(x), plain(x))


def test_a_folded_network_gives_the_same_for_images_of_other_sizes_in_turn():
    torch.manual_seed(0)
    model = botvision.create_model("botnet50", width=8, depths=(1, 1, 1, 1), num_classes=5).eval()
    folded = botvision.fold(model)
    assert any(isinstance(layer, PackedConv2d) for layer in folded.modules())
    with torch.no_grad():
        for size in (64, 64, 96, 64, 64, 64, 96):
            images = torch.randn(2, 3, size, 80)
            torch.testing.assert_close(folded(images), model(images), rtol=1e-4, atol=1e-5)
