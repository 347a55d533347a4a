"""Layers over a whole map as one program for every size: compiled with gradients, and exported."""

from functools import partial

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch.export import Dim, export

from botvision.layers import ATTENTION_KINDS, MHSA2d
from botvision.layers.lambda_layer import LambdaLayer


def make_attention(kind, stride=1):
    return MHSA2d(16, None if kind == "qk" else (7, 7), 2, kind, stride=stride)


LAYERS = {
    **{kind: partial(make_attention, kind) for kind in ATTENTION_KINDS},
    **{f"{kind} of stride 2": partial(make_attention, kind, 2) for kind in ATTENTION_KINDS},
    "lambda": lambda: LambdaLayer(16, heads=2),
    "lambda_global": lambda: LambdaLayer(16, heads=2, window=None, size=(7, 7)),
}


def marked(name):
    return pytest.param(name, marks=[pytest.mark.pools_open_sizes] if "stride" in name else [])


@pytest.mark.parametrize("name", [marked(name) for name in LAYERS])
def test_a_layer_is_one_program_of_open_size(name):
    torch.manual_seed(0)
    layer = LAYERS[name]().eval()
    for parameter in layer.parameters():  # tables of zeros would hide what they do
        torch.nn.init.normal_(parameter, std=0.3)
    torch._dynamo.reset()
    counter = CompileCounter()
    compiled = torch.compile(layer, backend=counter, dynamic=True, fullgraph=True)
    open_sides = {2: Dim.DYNAMIC(min=2, max=64), 3: Dim.DYNAMIC(min=2, max=64)}
    program = export(layer, (torch.randn(2, 16, 6, 9),), dynamic_shapes=(open_sides,)).module()
    for size in [(6, 9), (4, 13), (34, 38), (35, 38)]:  # the last maps are in blocks, and larger than their tables
        x = torch.randn(2, 16, *size, requires_grad=True)
        expected, found = layer(x), compiled(x)
        torch.testing.assert_close(program(x), expected, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
        own, other = (torch.autograd.grad(out.square().sum(), x)[0] for out in (found, expected))
        torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-3)
    assert counter.frame_count == 1
