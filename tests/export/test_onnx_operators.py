"""The attention operator in ONNX: against the definition in float64, and in memory below the whole matrix."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.export import Dim

from botvision.attention import backend, biased_attention
from botvision.attention.reference import reference_attention
from botvision.tasks.detection.ranking import best_first

onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")
pytest.importorskip("onnxscript", reason="needs the extra onnx")


class Biased(nn.Module):
    """Keys and values come as maps (B, heads, H, W, d), so that their number is known to be H * W."""

    def forward(self, q, k, v, bias_height, bias_width):
        return biased_attention(q, k.flatten(2, 3), v.flatten(2, 3), bias_height, bias_width, scale=0.3)


def tensors(batch, heads, queries, size, width, values):
    lasts = [(queries, width), (*size, width), (*size, values), (queries, size[0]), (queries, size[1])]
    generator = torch.Generator().manual_seed(queries)
    return [torch.randn(batch, heads, *last, generator=generator) for last in lasts]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """The operator alone, for open sizes."""
    from botvision.export.onnx_operators import attention

    batch, n, h, w = (Dim(name, max=2**12) for name in ("batch", "n", "h", "w"))
    of_keys = {0: batch, 2: h, 3: w}
    shapes = ({0: batch, 2: n}, of_keys, of_keys, {0: batch, 2: n, 3: h}, {0: batch, 2: n, 3: w})
    path = tmp_path_factory.mktemp("attention") / "attention.onnx"
    with backend("blocks"), torch.no_grad():
        program = torch.export.export(Biased(), tuple(tensors(2, 2, 7, (3, 5), 8, 6)), dynamic_shapes=shapes)
    table = {torch.ops.botvision.attention.default: attention}
    torch.onnx.export(program, (), dynamo=True, verbose=False, custom_translation_table=table).save(path)
    return path


@pytest.mark.parametrize(
    ("batch", "queries", "size"),
    [(1, 1, (2, 3)), (2, 511, (7, 5)), (2, 512, (6, 6)), (1, 513, (5, 9)), (3, 1025, (33, 31))],
)
def test_it_is_the_definition(file, batch, queries, size):
    """On both sides of the size of a block, with a masked row and column of keys."""
    inputs = tensors(batch, 2, queries, size, 8, 6)
    inputs[3][0, :, :, 1:2], inputs[4][-1, 0, :, -1] = -torch.inf, -torch.inf
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    given = {value.name: tensor.numpy() for value, tensor in zip(session.get_inputs(), inputs, strict=True)}
    (found,) = session.run(None, given)
    q, k, v, *biases = (tensor.double() for tensor in inputs)
    expected = reference_attention(q, k.flatten(2, 3), v.flatten(2, 3), *biases, 0.3)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


MEASURE = """
import resource, sys
import numpy as np, onnxruntime
options = onnxruntime.SessionOptions()
options.enable_cpu_mem_arena = False
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
names, n = [value.name for value in session.get_inputs()], 64 * 64
lasts = [(n, 8), (64, 64, 8), (64, 64, 6), (n, 64), (n, 64)]
inputs = {name: np.ones((1, 2, *last), np.float32) for name, last in zip(names, lasts)}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
session.run(None, inputs)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss is Linux's")
def test_a_map_of_64_x_64_needs_less_memory_than_one_matrix(file):
    done = subprocess.run([sys.executable, "-c", MEASURE, str(file)], capture_output=True, text=True, check=True)
    matrix = 4 * 2 * (64 * 64) ** 2  # float32, two heads
    assert int(done.stdout) < 0.6 * matrix


class Best(nn.Module):
    def forward(self, scores):
        return best_first(scores, 7)


def test_equal_scores_are_sorted_in_their_order(tmp_path):
    """As PyTorch's stable sort does, for any batch and number."""
    from botvision.export.onnx_operators import sorted_stably

    shapes = ({0: Dim("batch", max=64), 1: Dim("n", min=8, max=2**12)},)
    program = torch.export.export(Best(), (torch.zeros(2, 9),), dynamic_shapes=shapes)
    table = {torch.ops.aten.sort.stable: sorted_stably}
    torch.onnx.export(program, (), dynamo=True, verbose=False, custom_translation_table=table).save(tmp_path / "a.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "a.onnx"), providers=["CPUExecutionProvider"])
    scores = torch.randint(0, 5, (3, 1000), generator=torch.Generator().manual_seed(0)).float()
    values, places = session.run(None, {session.get_inputs()[0].name: scores.numpy()})
    expected = np.argsort(-scores.numpy(), axis=1, kind="stable")[:, :7]
    assert places.tolist() == expected.tolist()
    assert values.tolist() == np.take_along_axis(scores.numpy(), expected, axis=1).tolist()
