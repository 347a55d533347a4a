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

from botvision.layers import SPATIAL_LAYERS, Bottleneck, HalvingPool, MHSA2d, NonLocalBlock, Style

BOT = "qk+qr_relative"


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


@pytest.mark.parametrize("spatial", SPATIAL_LAYERS)
def test_a_layer_says_truly_whether_it_relates_all_positions(spatial):
    """The gradient of one output reaches the farthest position, or it does not."""
    torch.manual_seed(0)
    block = Bottleneck(16, 8, 1, spatial, size=(30, 30)).eval()
    layer, x = getattr(block, block.spatial_name), torch.randn(1, 8, 30, 30, requires_grad=True)
    layer(x)[0, :, 0, 0].sum().backward()
    assert getattr(layer, "relates_all_positions", False) == bool(x.grad[0, :, -1, -1].abs().sum() > 0)


def test_squeeze_and_excitation_is_timms():
    torch.manual_seed(0)
    theirs = timm.models.resnet.Bottleneck(128, 32, attn_layer="se", act_layer=nn.SiLU)
    ours = Bottleneck(128, 32, style=Style(activation=nn.SiLU, se_ratio=1 / 16)).eval()
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
    block = wake(Bottleneck(24, 8, 2, BOT, size=(6, 9), heads=2))
    x = torch.randn(2, 24, 6, 9)
    attention = MHSA2d(8, (6, 9), heads=2)
    attention.load_state_dict(block.mhsa.state_dict())
    out = attention(block.bn1(block.conv1(x)).relu())
    out = nn.functional.avg_pool2d(out, 2, ceil_mode=True, count_include_pad=False)
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


@pytest.mark.parametrize("spatial", SPATIAL_LAYERS)
@pytest.mark.parametrize("stride", [1, 2])
def test_a_new_block_is_its_shortcut(spatial, stride):
    block = Bottleneck(32, 8, stride, spatial, size=(5, 7))
    x = torch.randn(2, 32, 5, 7).relu()
    shortcut = block.downsample(x) if block.downsample else x
    torch.testing.assert_close(block(x), shortcut.relu())


def test_a_new_non_local_block_is_its_input():
    x = torch.randn(2, 32, 4, 4)
    torch.testing.assert_close(NonLocalBlock(32)(x), x)


@pytest.mark.parametrize("spatial", ["conv", BOT])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.SiLU])
@pytest.mark.parametrize("norm", [nn.BatchNorm2d, FrozenBatchNorm2d])
def test_gradients_of_a_block_are_those_of_finite_differences(spatial, activation, norm):
    """The shortcut is added in place: autograd would give wrong gradients if a layer had needed its output."""
    torch.manual_seed(0)
    style = Style(norm, activation, se_ratio=0.5)
    block = wake(Bottleneck(16, 4, spatial=spatial, size=(2, 3), heads=2, drop_path=0.5, style=style)).double()
    x = torch.randn(1, 16, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(block, x)
    torch.manual_seed(1)
    before = x.detach().clone()
    block.train()(x).sum().backward()
    assert torch.equal(x, before) and x.grad.isfinite().all()


def test_squeeze_and_excitation_is_in_convolutional_blocks_alone():
    style = Style(se_ratio=0.25)
    names = [name for name in SPATIAL_LAYERS if hasattr(Bottleneck(8, 4, 1, name, size=(3, 3), style=style).se, "fc1")]
    assert names == ["conv"]


@pytest.mark.parametrize("spatial", ["conv", BOT])
@pytest.mark.parametrize("stride", [0, 3, 4, "2"])
def test_other_strides_are_refused(spatial, stride):
    with pytest.raises(ValueError, match=r"stride: .*1 or 2"):
        Bottleneck(32, 8, stride, spatial, size=(4, 4))


def test_an_unknown_spatial_layer_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"spatial: .*'qr_relativ'.*qr_relative"):
        Bottleneck(32, 8, spatial="qr_relativ")


def test_a_frozen_norm_does_not_silence_its_block():
    torch.manual_seed(0)
    block = Bottleneck(32, 8, style=Style(norm=FrozenBatchNorm2d))
    x = torch.randn(1, 32, 4, 4)
    assert (block(x) - x.relu()).abs().max() > 1e-2


def test_stochastic_depth_skips_in_training_alone():
    torch.manual_seed(0)
    block = wake(Bottleneck(32, 8, drop_path=0.999999))
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
