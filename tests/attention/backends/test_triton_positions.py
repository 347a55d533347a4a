"""The Triton programs of relative positions, by Triton's interpreter or a card, compared with float64.

The interpreter has to be asked for before Triton is imported, so it runs in a process of its own: this file as a
program, which hands back what it computed.
"""

import os
import subprocess
import sys
from typing import NamedTuple

import pytest
import torch

from botvision.attention import figure_4_attention
from botvision.attention.backends import triton_positions
from botvision.attention.backends.triton_positions import position_biases, position_gradients

SCALE = 0.3
NAMES = ("bias_height", "bias_width", "q", "rel_height", "rel_width")


class Case(NamedTuple):
    """Queries of a map and the keys of the same or another one."""

    size: tuple[int, int]
    keys: tuple[int, int]
    width: int = 32
    dtype: torch.dtype = torch.float32
    layout: str = "contiguous"
    vectors: float = 1.0
    """How large q and the tables are."""
    upstream: float = 1.0
    """How large the gradients of the biases are."""


CASES = {
    "square": Case((14, 14), (14, 14), 48),
    "keys on another map": Case((4, 6), (3, 9)),
    "one position": Case((1, 1), (1, 1), 1),
    "several runs of distances": Case((40, 3), (40, 3), 64),
    "a long line": Case((1, 150), (1, 150), 16),
    "channels last": Case((5, 7), (5, 7), layout="channels last"),
    "no stride is 1": Case((5, 7), (5, 7), layout="transposed"),
    "float16": Case((20, 9), (20, 9), 128, torch.float16),
    "gradients beyond float16": Case((9, 20), (9, 20), 64, torch.float16, vectors=1e-3, upstream=1e5),
    "gradients below float16": Case((9, 20), (9, 20), 64, torch.float16, vectors=1e2, upstream=1e-6),
    "bfloat16": Case((9, 20), (9, 20), 96, torch.bfloat16),
}
# In half precision the results are rounded, and gradients before they are multiplied.
TOLERANCE = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 1e-2}

ON_A_CARD = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA card")
PLACES = ["interpreter", pytest.param("cuda", marks=ON_A_CARD)]
EVERYWHERE = [("interpreter", name) for name in CASES]
EVERYWHERE += [pytest.param("cuda", name, marks=ON_A_CARD) for name in CASES]


def operands(case: Case) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """q and the two tables; the gradients of both biases."""
    generator = torch.Generator().manual_seed(0)
    queries = case.size[0] * case.size[1]
    shapes = [(2, 3, queries, case.width)]
    shapes += [(side + key_side - 1, case.width) for side, key_side in zip(case.size, case.keys, strict=True)]
    tensors = [(case.vectors * torch.randn(shape, generator=generator)).to(case.dtype) for shape in shapes]
    if case.layout == "channels last":
        tensors[0] = tensors[0].transpose(1, 2).contiguous().transpose(1, 2)
    if case.layout == "transposed":
        tensors = [tensor.transpose(-1, -2).contiguous().transpose(-1, -2) for tensor in tensors]
    return tensors, [case.upstream * torch.randn(2, 3, queries, side, generator=generator) for side in case.keys]


def by_programs(case: Case, device: str = "cpu") -> dict[str, torch.Tensor]:
    """The biases and the three gradients."""
    (q, *tables), upstream = ([tensor.to(device) for tensor in tensors] for tensors in operands(case))
    biases = position_biases(q, *tables, case.size, SCALE)
    grads = position_gradients(tuple(upstream), q, tuple(tables), case.size, SCALE, [True] * 3)
    return dict(zip(NAMES, [*biases, *grads], strict=True))


def by_distances(case: Case) -> dict[str, torch.Tensor]:
    """The same in float64, with the vector of every pair's distance written out."""
    inputs, upstream = ([tensor.double() for tensor in tensors] for tensors in operands(case))
    q, *tables = inputs = [tensor.requires_grad_() for tensor in inputs]
    places = torch.cartesian_prod(*(torch.arange(side) for side in case.size)).view(-1, 2).unbind(1)
    biases = []
    for place, table, side, key_side in zip(places, tables, case.size, case.keys, strict=True):
        distance = torch.arange(key_side) - place[:, None] + side - 1
        biases.append(SCALE * torch.einsum("bhnd,nkd->bhnk", q, table[distance]))
    grads = torch.autograd.grad(biases, inputs, upstream)
    return {name: x.detach() for name, x in zip(NAMES, [*biases, *grads], strict=True)}


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory, triton_interpreter) -> dict[str, dict[str, torch.Tensor]]:
    """Results by case."""
    path = tmp_path_factory.mktemp("interpreted") / "results.pt"
    subprocess.run(
        [sys.executable, __file__, str(path)], env=os.environ | {"TRITON_INTERPRET": "1"}, check=True, timeout=300
    )
    return torch.load(path, weights_only=True)


@pytest.fixture
def computed(request):
    """Gives the results of a case by the interpreter, which only then has to work, or on a card."""

    def compute(name: str, place: str) -> dict[str, torch.Tensor]:
        on_card = place == "cuda"
        result = by_programs(CASES[name], place) if on_card else request.getfixturevalue("interpreted")[name]
        return {key: tensor.cpu() for key, tensor in result.items()}

    return compute


@pytest.mark.parametrize(("place", "name"), EVERYWHERE)
def test_biases_and_gradients_are_those_of_the_distances(place, name, computed):
    case = CASES[name]
    expected, result = by_distances(case), computed(name, place)
    errors = {key: ((result[key].double() - expected[key]).norm() / expected[key].norm()).item() for key in NAMES}
    # Not by their maximum, which can pass over a NaN.
    assert all(error < TOLERANCE[case.dtype] for error in errors.values()), errors
    # Products of half precision are exact, and summed in float32.
    assert all(errors[key] < 1e-6 for key in NAMES[:2]), errors


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ["square", "float16", "no stride is 1"])
def test_biases_are_float32_and_gradients_like_what_they_belong_to(name, place, computed):
    result = computed(name, place)
    assert {result[key].dtype for key in NAMES[:2]} == {torch.float32}
    for key, tensor in zip(NAMES[2:], operands(CASES[name])[0], strict=True):
        assert (result[key].dtype, result[key].shape) == (tensor.dtype, tensor.shape)
    # As a compiler is told beforehand, whatever the strides of what they belong to.
    assert result["q"].transpose(1, 2).is_contiguous()
    assert all(result[key].is_contiguous() for key in NAMES if key != "q")


@pytest.mark.parametrize("place", PLACES)
def test_the_biases_are_those_of_figure_4(place, computed):
    case = CASES["square"]
    result = computed("square", place)
    (q, *tables), _ = operands(case)
    positions = q.shape[2]
    # A softmax without a content term tells of all differences between biases.
    keys, values = torch.zeros_like(q), torch.eye(positions).expand(2, 3, -1, -1)
    probabilities = figure_4_attention(q, keys, values, *tables, size=case.size, scale=SCALE)
    logits = (result["bias_height"][..., :, None] + result["bias_width"][..., None, :]).flatten(-2)
    torch.testing.assert_close(logits.softmax(dim=-1), probabilities)


@ON_A_CARD
def test_two_runs_on_a_card_are_equal_to_the_bit():
    first, second = (by_programs(CASES["bfloat16"], "cuda") for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)


@ON_A_CARD
def test_float32_does_not_lose_bits_to_tf32(monkeypatch):
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", True)
    expected, result = by_distances(CASES["square"]), by_programs(CASES["square"], "cuda")
    for key in NAMES:
        assert (result[key].cpu().double() - expected[key]).norm() < 1e-6 * expected[key].norm()


def test_a_long_table_takes_no_more_memory_for_its_gradient(monkeypatch):
    """A line of 4096 positions: with a share for every program its gradient would be added up from 1 GiB."""
    numbers = []

    def note(program, grid, blocks, q, size, keys, scale, vectors, upstream, shares, all_blocks):
        numbers.append(sum(share.numel() for share in shares))
        for share in shares:
            share.zero_()

    monkeypatch.setattr(triton_positions, "launch", note)
    q, tables = torch.empty(1, 1, 4096, 128), (torch.empty(1, 128), torch.empty(8191, 128))
    biases = torch.empty(1, 1, 4096, 1), torch.empty(1, 1, 4096, 4096)
    position_gradients(biases, q, tables, (1, 4096), 1.0, [False, True, True])
    assert numbers
    assert max(numbers) <= 2 * tables[1].numel()


def test_nothing_is_computed_of_nothing():
    q, tables = torch.empty(0, 4, 6, 8), (torch.randn(3, 8), torch.randn(5, 8))
    biases = position_biases(q, *tables, (2, 3), 1.0)
    assert [bias.shape for bias in biases] == [(0, 4, 6, 2), (0, 4, 6, 3)]
    grads = position_gradients(biases, q, tables, (2, 3), 1.0, [True, True, False])
    torch.testing.assert_close(grads[0], torch.zeros_like(q))
    torch.testing.assert_close(grads[1], torch.zeros(3, 8))
    assert grads[2] is None


if __name__ == "__main__":
    from bfloat16_in_the_interpreter import multiply_bfloat16_in_the_interpreter

    multiply_bfloat16_in_the_interpreter()
    torch.save({name: by_programs(case) for name, case in CASES.items()}, sys.argv[1])
