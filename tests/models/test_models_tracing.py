"""One program for every size: torch.compile without a graph break, torch.export with open height and width."""

import json

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch.export import Dim, export

from botvision.models import CATALOGUE, Network, NetworkConfig
from botvision.models.config import STAGES


def small(config):
    """The same kinds of block in the same stages, few and narrow."""
    depths = tuple(2 if stage in config.insert_in else 1 for stage in STAGES)
    return config.replace(depths=depths, width=8, input_size=224)


DISTINCT = {json.dumps(small(entry.config).plain()): name for name, entry in reversed(CATALOGUE.items())}
KINDS = {name: small(CATALOGUE[name].config) for name in DISTINCT.values()}
"""The catalogue's entries that differ in more than depth, width and size, each under one of its names."""
COVERED = "resnet50_bot_c4"
"""Takes 15 seconds, and is made of blocks that "resnet50_bot_c4c5" has in the same stages."""


def oblong(height, width):
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(height))


def assert_one_program(model):
    """One compiled graph, forwards and backwards, on both sides of every choice that depends on the size."""
    torch._dynamo.reset()
    counter = CompileCounter()
    compiled = torch.compile(model, backend=counter, dynamic=True, fullgraph=True)
    for size in [(97, 130), (65, 211), (544, 608)]:  # c4 of 34x38 positions is folded, and past a table for 224
        out = compiled(oblong(*size))
        out.square().sum().backward()
        torch.testing.assert_close(out, model(oblong(*size)), rtol=1e-3, atol=1e-4)
    assert counter.frame_count == 1


def assert_exports(model):
    """One exported program with open sizes, the same on sizes it was not traced at."""
    image = {2: Dim.DYNAMIC(min=33, max=2048), 3: Dim.DYNAMIC(min=33, max=2048)}
    program = export(model, (oblong(97, 130),), dynamic_shapes=(image,)).module()
    for size in [(33, 47), (224, 224), (600, 545)]:
        with torch.no_grad():
            torch.testing.assert_close(program(oblong(*size)), model(oblong(*size)), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.pools_open_sizes
@pytest.mark.parametrize("name", [name for name in KINDS if name != COVERED])
def test_every_model_is_one_program(name):
    torch.manual_seed(0)
    model = Network(KINDS[name], num_classes=4)
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.0  # the compiled and the plain pass leave each other's statistics alone
    assert_one_program(model)
    assert_exports(model.eval())


def test_every_kind_of_block_is_among_them():
    with torch.device("meta"):
        kinds = {tuple(name for name, _ in Network(config).named_modules()) for config in KINDS.values()}
    assert len(KINDS) == 8
    assert len(kinds) == 7  # BoTNet-S1 has the modules of BoTNet


@pytest.mark.pools_open_sizes
def test_the_batch_can_be_open_too_and_dimensions_can_have_names():
    torch.manual_seed(0)
    model = Network(NetworkConfig(depths=(1, 1, 1, 1), attention_in=("c5",), width=8), num_classes=4).eval()
    image = {0: Dim("batch", max=64), 2: Dim("height", min=33, max=2048), 3: Dim("width", min=33, max=2048)}
    program = export(model, (oblong(97, 130),), dynamic_shapes=(image,)).module()
    x = torch.randn(3, 3, 200, 65)
    torch.testing.assert_close(program(x), model(x))
