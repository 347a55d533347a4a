"""Networks in onnxruntime, as the benchmark of inference runs them."""

import sys

import pytest
import torch

from botvision.benchmarks.inference import in_onnxruntime
from botvision.errors import UserError
from botvision.models import create_model

CPU = torch.device("cpu")


@pytest.fixture
def network():
    torch.manual_seed(0)
    return create_model("botnet50", depths=(1, 1, 1, 1), width=8, input_size=64).eval()


def test_the_exported_network_gives_the_same_logits(network):
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(in_onnxruntime(network, CPU)(images), network(images), rtol=1e-4, atol=1e-4)


def test_where_it_cannot_be_timed_a_line_says_why(network, monkeypatch):
    with pytest.raises(UserError, match="processor"):
        in_onnxruntime(network, torch.device("cuda"))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"botvision\[onnx\]"):
        in_onnxruntime(network, CPU)
