"""Costs computed from a configuration against those counted in the network itself."""

import pytest
import torch

from botvision.layers import ATTENTION_KINDS
from botvision.models import CATALOGUE, create_model
from botvision.models.counting import count_multiply_adds, count_parameters
from botvision.models.stages import network_cost, stage_blocks
from botvision.models.summary import tree

SIZE = (65, 97)
FEW = {"depths": (1, 1, 2, 2)}
CASES = [
    *((name, FEW) for name in CATALOGUE),
    ("resnet50", {}),
    ("botnet_t3", {}),
    *(("botnet50", {**FEW, "attention": kind, "input_size": (97, 130)}) for kind in (*ATTENTION_KINDS, "none")),
    *(("botnet50", {**FEW, "spatial": {"c4": name, "c5": name}}) for name in ("lambda", "lambda_global")),
    ("botnet_t3", {**FEW, "spatial": {"c2": "lambda"}, "norm": "frozen", "heads": 2}),
    ("resnet50_nl_c4", {**FEW, "insert_in": ("c4", "c5"), "norm": "group", "in_channels": 5}),
    ("botnet50", {**FEW, "output_stride": 8, "stage_widths": (32, 48, 64, 128)}),
    ("botnet50", {**FEW, "output_stride": 16, "width": 32}),
]


@pytest.mark.parametrize(("name", "fields"), CASES)
def test_a_cost_is_what_the_network_has(name, fields):
    with torch.device("meta"):
        network = create_model(name, num_classes=10, **fields)
    cost = network_cost(network.config, *SIZE, num_classes=10)
    assert cost.parameters == count_parameters(network)
    assert cost.multiply_adds == count_multiply_adds(network, *SIZE, channels=network.config.in_channels)


@pytest.mark.parametrize("name", ["botnet50", "resnet50_nl_c4", "botnet50_s1", "senet_s1"])
def test_the_tree_has_the_sizes_of_the_maps(name):
    with torch.device("meta"):
        network = create_model(name, features_only=True)
        maps = network(torch.empty(1, 3, 225, 225))
    last = {stage.stage: (stage.channels, stage.height, stage.width) for stage in tree(name, 225)}
    assert [last[stage] for stage in ("c2", "c3", "c4", "c5")] == [tuple(one.shape[1:]) for one in maps]
    named = [[block.name for block in blocks] for blocks in stage_blocks(network.config)]
    assert named == [[block for block, _ in stage.named_children()] for stage in network.stages()]
