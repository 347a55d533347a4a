"""Our count of multiply-adds against PyTorch's own counter, which counts two operations for each."""

import pytest
import torch
from timm.layers.bottleneck_attn import BottleneckAttn
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from botvision.layers import ATTENTION_KINDS, HalvingPool, MHSA2d
from botvision.models import CATALOGUE, create_model
from botvision.models.counting import count_multiply_adds

SIZE = (65, 97)


def independent_count(model, *inputs):
    """Multiply-adds that PyTorch sees in a forward pass."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(*inputs)
    return counter.get_total_flops() / 2


@pytest.mark.parametrize("name", [name for name, entry in CATALOGUE.items() if "bot" not in name and "nl" not in name])
def test_convolutional_networks(name):
    with torch.device("meta"):
        model = create_model(name, width=8, in_channels=4)
        expected = independent_count(model, torch.zeros(1, 4, *SIZE))
    assert count_multiply_adds(model, *SIZE, channels=4) == expected


class TimmAttention(nn.Module):
    """timm's layer, which multiplies q by the whole tables, in place of ours."""

    def __init__(self, ours, size):
        super().__init__()
        channels = ours.qkv.in_channels
        self.layer = BottleneckAttn(channels, ours.widths[-1], size, num_heads=ours.heads, dim_head=ours.head_width)
        self.pool = HalvingPool() if ours.stride == 2 else nn.Identity()

    def forward(self, x):
        return self.pool(self.layer(x))


@pytest.mark.parametrize("name", ["botnet50", "botnet50_s1", "botnet_t3", "resnet50_bot_c4c5"])
def test_networks_with_relative_attention(name):
    with torch.device("meta"):
        model = create_model(name, width=8)
        ours = count_multiply_adds(model, *SIZE)
        sizes = {}
        for layer_name, layer in model.named_modules():
            if isinstance(layer, MHSA2d):
                layer.register_forward_hook(
                    lambda _, inputs, __, layer_name=layer_name: sizes.update({layer_name: inputs[0].shape[2:]})
                )
        model(torch.zeros(2, 3, *SIZE))
        for layer_name, size in sizes.items():
            model.set_submodule(layer_name, TimmAttention(model.get_submodule(layer_name), tuple(size)))
        assert len(sizes) >= 2
        assert ours == independent_count(model, torch.zeros(1, 3, *SIZE))


class WrittenOut(nn.Module):
    """The products of each kind of attention with nothing folded."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        layer = self.layer
        parts = [part.flatten(2).unflatten(1, (layer.heads, -1)) for part in layer.qkv(x).split(layer.widths, dim=1)]
        for table in layer.tables():
            _ = table @ parts[0]
        positions = x.shape[2] * x.shape[3]
        logits = torch.zeros(1, layer.heads, positions, positions)
        if layer.kind.startswith("qk"):
            logits = logits + parts[0].transpose(2, 3) @ parts[1]
        return parts[-1] @ logits.softmax(-1)


@pytest.mark.parametrize("kind", ATTENTION_KINDS)
def test_every_kind_of_attention(kind):
    layer = MHSA2d(12, (5, 7), heads=2, kind=kind, out_channels=16, head_width=3)
    projections = 5 * 7 * 12 * sum(layer.widths)
    expected = independent_count(WrittenOut(layer), torch.zeros(1, 12, 5, 7))
    assert layer.multiply_adds(5, 7) + projections == expected


def test_non_local_network():
    model = create_model("resnet50_nl_c4", width=8, depths=(1, 1, 2, 1))
    ours = count_multiply_adds(model, *SIZE)
    block = model.layer3.inserted
    block.mhsa = WrittenOutMap(block.mhsa)
    assert ours == independent_count(model, torch.zeros(1, 3, *SIZE))


class WrittenOutMap(WrittenOut):
    """The same, as a map for the layers after it."""

    def forward(self, x, valid_size=None):
        assert valid_size is None
        return super().forward(x).flatten(1, 2).unflatten(2, x.shape[2:])
