"""Whole networks: every entry of the catalogue, against torchvision, and in memory."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.models._utils import IntermediateLayerGetter

from botvision.models import CATALOGUE, create_model


def wake(model):
    """Give every batch norm numbers of its own, so that no branch of a new network is silent."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1)
            nn.init.normal_(layer.running_mean, std=0.1)
            nn.init.uniform_(layer.running_var, 0.8, 1.2)
    return model.eval()


@pytest.mark.slow
@pytest.mark.parametrize("name", CATALOGUE)
def test_every_model_learns_at_its_size_and_at_an_odd_oblong_one(name):
    torch.manual_seed(0)
    model = create_model(name, width=8, num_classes=4)
    side = model.config.input_size
    for size in [(side, side), (75, 133)]:
        model.zero_grad()
        logits = model(torch.randn(2, 3, *size))
        assert logits.shape == (2, 4)
        logits.square().sum().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.fixture(scope="module")
def extractors():
    """Backbones of every shape there is, and torchvision's ResNet-50 to measure them by."""
    small = {"width": 8, "depths": (1, 1, 2, 2), "features_only": True}
    names = ("resnet50", "botnet50", "senet_s1", "resnet50_nl_c4", "resnet50_bot_c4c5")
    layers = {f"layer{number}": f"c{number + 1}" for number in (1, 2, 3, 4)}
    reference = IntermediateLayerGetter(torchvision.models.resnet50(weights=None), layers).to("meta")
    return reference, [create_model(name, **small).eval() for name in names]


@settings(max_examples=20, deadline=None)
@given(size=st.tuples(st.integers(33, 200), st.integers(33, 200)))
def test_maps_have_the_sizes_of_resnet50(extractors, size):
    reference, ours = extractors
    expected = [out.shape[2:] for out in reference(torch.zeros(1, 3, *size, device="meta")).values()]
    for model in ours:
        with torch.no_grad():
            maps = model(torch.zeros(1, 3, *size))
        assert [out.shape[2:] for out in maps] == expected
        assert all(out.is_contiguous(memory_format=torch.channels_last) for out in maps)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet50", "resnet101", "resnet152"])
def test_torchvisions_weights_give_torchvisions_logits(name):
    torch.manual_seed(0)
    theirs = wake(torchvision.models.get_model(name, weights=None))
    ours = create_model(name).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(2, 3, 97, 130)
    with torch.no_grad():
        expected, found = theirs(x), ours(x)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize(("output_stride", "dilated"), [(16, [False, False, True]), (8, [False, True, True])])
def test_output_stride_is_torchvisions_dilation(output_stride, dilated):
    torch.manual_seed(0)
    theirs = torchvision.models.resnet.ResNet(
        torchvision.models.resnet.Bottleneck, [1, 1, 2, 3], replace_stride_with_dilation=dilated
    )
    ours = create_model("resnet50", depths=(1, 1, 2, 3), output_stride=output_stride).eval()
    ours.load_state_dict(wake(theirs).state_dict(), strict=True)
    x = torch.randn(1, 3, 67, 98)
    with torch.no_grad():
        expected, found = theirs(x), ours(x)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_checkpointing_computes_the_same_gradients():
    torch.manual_seed(0)
    model = create_model("botnet50", width=8, depths=(1, 1, 2, 2), num_classes=3)
    x = torch.randn(2, 3, 64, 80)
    gradients = []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        model(x).square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(again, plain)


MEASURE = """
from pathlib import Path
import sys, torch, botvision
def status(key):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(key))
botvision.create_model("resnet50", width=8)
Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
before = status("VmRSS")
model = botvision.create_model(sys.argv[1])
weights = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
print(status("VmHWM") - before, weights)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux's /proc")
def test_building_takes_no_more_memory_than_the_weights_twice():
    done = subprocess.run([sys.executable, "-c", MEASURE, "botnet_t7"], capture_output=True, text=True, check=True)
    peak, weights = map(int, done.stdout.split())
    assert weights / 2 < peak < 2 * weights
