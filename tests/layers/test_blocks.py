"""The blocks against torchvision's and timm's, and against formulas."""

import shutil

import pytest
import timm.models.resnet
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from botvision.layers import BoTBlock, Bottleneck, HalvingPool, NonLocalBlock, Style


def wake(module):
    """Give every normalisation layer numbers of its own, so that no branch is silent."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight, layer.bias, layer.running_mean):
                nn.init.normal_(tensor)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    return module.eval()


@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2), (1, 4)])
def test_bottleneck_is_torchvisions(stride, dilation):
    torch.manual_seed(0)
    projection = nn.Sequential(nn.Conv2d(24, 32, 1, stride, bias=False), nn.BatchNorm2d(32))
    theirs = torchvision.models.resnet.Bottleneck(24, 8, stride, projection, dilation=dilation)
    ours = Bottleneck(24, 8, stride, dilation=dilation).eval()
    ours.load_state_dict(wake(theirs).state_dict(), strict=True)
    x = torch.randn(2, 24, 9, 14)
    torch.testing.assert_close(ours(x), theirs(x))


def test_squeeze_and_excitation_is_timms():
    torch.manual_seed(0)
    theirs = timm.models.resnet.Bottleneck(128, 32, attn_layer="se", act_layer=nn.SiLU)
    ours = Bottleneck(128, 32, se_ratio=1 / 16, style=Style(activation=nn.SiLU)).eval()
    ours.load_state_dict(wake(theirs).state_dict(), strict=True)
    x = torch.randn(2, 128, 5, 6)
    torch.testing.assert_close(ours(x), theirs(x))


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 15), width=st.integers(1, 15))
def test_halving_pool_is_the_mean_of_the_pixels_there_are(height, width):
    x = torch.randn(2, 3, height, width, dtype=torch.float64, requires_grad=True)
    reference = nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)
    ours, theirs = HalvingPool()(x), reference(x)
    torch.testing.assert_close(ours, theirs)
    upstream = torch.randn_like(theirs)
    torch.testing.assert_close(*(torch.autograd.grad(out, x, upstream)[0] for out in (ours, theirs)))


def test_bot_block_is_figure_1():
    torch.manual_seed(0)
    block = wake(BoTBlock(24, 8, size=(6, 9), heads=2, stride=2))
    x = torch.randn(2, 24, 6, 9)
    out = block.bn1(block.conv1(x)).relu()
    out = nn.functional.avg_pool2d(block.mhsa(out), 2, ceil_mode=True, count_include_pad=False)
    out = block.bn3(block.conv3(block.bn2(out).relu()))
    torch.testing.assert_close(block(x), (out + block.downsample(x)).relu())


def test_non_local_is_one_head_of_softmax_attention_with_a_residual():
    torch.manual_seed(0)
    block = wake(NonLocalBlock(6)).double()
    x = torch.randn(2, 6, 4, 5, dtype=torch.float64)
    query, key, value = nn.functional.conv2d(x, block.mhsa.qkv.weight).flatten(2).transpose(1, 2).chunk(3, dim=2)
    assert value.shape == (2, 20, 3)
    attended = (query @ key.transpose(1, 2) * 3**-0.5).softmax(-1) @ value
    expected = x + block.bn(block.conv(attended.transpose(1, 2).unflatten(2, (4, 5))))
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize(
    "block",
    [Bottleneck(32, 8), BoTBlock(32, 8, size=(4, 4)), BoTBlock(16, 8, size=(4, 4), stride=2), NonLocalBlock(32)],
    ids=lambda block: type(block).__name__,
)
def test_a_new_block_is_its_shortcut(block):
    x = torch.randn(2, block.downsample[0].in_channels if getattr(block, "downsample", None) else 32, 4, 4).relu()
    shortcut = block.downsample(x) if getattr(block, "downsample", None) else x
    torch.testing.assert_close(block(x), shortcut.relu())


@pytest.mark.parametrize("block", [Bottleneck, lambda *given, stride: BoTBlock(*given, (4, 4), stride=stride)])
@pytest.mark.parametrize("stride", [0, 3, 4, "2"])
def test_other_strides_are_refused(block, stride):
    with pytest.raises(ValueError, match="stride must be 1 or 2"):
        block(32, 8, stride=stride)


def test_a_frozen_norm_does_not_silence_its_block():
    torch.manual_seed(0)
    block = Bottleneck(32, 8, style=Style(norm=FrozenBatchNorm2d))
    x = torch.randn(1, 32, 4, 4)
    assert (block(x) - x.relu()).abs().max() > 1e-2


def test_stochastic_depth_skips_in_training_alone():
    torch.manual_seed(0)
    block = wake(Bottleneck(32, 8, style=Style(drop_path=1.0)))
    x = torch.randn(2, 32, 4, 4)
    assert (block.eval()(x) - x.relu()).abs().max() > 1e-2
    torch.testing.assert_close(block.train()(x), x.relu())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="PyTorch's own compiler needs one for C++")
def test_halving_pool_trains_in_a_compiled_network_of_open_size():
    torch.compiler.reset()
    layers = [nn.Conv2d(3, 16, 1), HalvingPool(), nn.Conv2d(16, 4, 1)]
    plain = nn.Sequential(*layers).to(memory_format=torch.channels_last)
    compiled = torch.compile(plain, dynamic=True)
    for size in [(9, 12), (7, 5)]:
        x = torch.randn(2, 3, *size).contiguous(memory_format=torch.channels_last)
        gradients = [
            torch.autograd.grad(network(x).square().sum(), plain[0].weight)[0] for network in (plain, compiled)
        ]
        torch.testing.assert_close(*gradients)
