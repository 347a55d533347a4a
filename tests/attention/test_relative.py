"""Relative attention against a loop over pairs, against float64, and against what it must not hold in memory."""

import math
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from botvision.attention import (
    absolute_attention,
    backend,
    content_attention,
    figure_4_attention,
    position_attention,
    reference_attention,
    relative_attention,
)
from botvision.attention.backends import query_blocks
from botvision.attention.backends.folded_sdpa import folded_attention
from botvision.benchmarks.peak_memory import freed_at_once, peak_memory

CPU = torch.device("cpu")

MAPS = st.one_of(
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.tuples(st.just(1), st.integers(1, 40)),
    st.tuples(st.integers(1, 40), st.just(1)),
    st.integers(1, 12).map(lambda side: (side, side)),
)


def operands(size, head_width, value_width=None, batch=2, heads=3, dtype=torch.float64, seed=0):
    """q, k, v and the two tables, drawn so that content and positions both matter."""
    generator = torch.Generator().manual_seed(seed)
    positions = size[0] * size[1]
    shapes = [(batch, heads, positions, head_width)] * 2 + [(batch, heads, positions, value_width or head_width)]
    shapes += [(2 * length - 1, head_width) for length in size]
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


def attention_by_loop(q, k, v, rel_height, rel_width, size, scale):
    """The paper's formula, one pair of positions after another."""
    height, width = size
    out = torch.zeros_like(v)
    places = list(product(range(height), range(width)))
    for b, n in product(range(q.shape[0]), range(q.shape[1])):
        for i, (row, column) in enumerate(places):
            logits = []
            for j, (key_row, key_column) in enumerate(places):
                position = rel_height[key_row - row + height - 1] + rel_width[key_column - column + width - 1]
                logits.append(scale * sum(q[b, n, i] * (k[b, n, j] + position)).item())
            weights = [math.exp(logit - max(logits)) for logit in logits]
            for weight, value in zip(weights, v[b, n], strict=True):
                out[b, n, i] += weight / sum(weights) * value
    return out


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (4, 2), (1, 5), (3, 1)])
@pytest.mark.parametrize("name", ["figure 4", "reference", "folded", "blocks"])
def test_it_is_the_sum_over_pairs(name, size):
    given = operands(size, head_width=4, value_width=3, batch=1, heads=2)
    expected = attention_by_loop(*given, size=size, scale=0.7)
    if name == "figure 4":
        found = figure_4_attention(*given, size, 0.7)
    else:
        with backend(name):
            found = relative_attention(*given, size=size, scale=0.7)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_positions_alone_are_the_sum_over_pairs_without_content():
    q, k, v, *tables = operands((3, 4), head_width=4, batch=1)
    expected = attention_by_loop(q, torch.zeros_like(k), v, *tables, size=(3, 4), scale=0.5)
    torch.testing.assert_close(position_attention(q, v, *tables, size=(3, 4)), expected, rtol=1e-12, atol=1e-12)


def with_gradients(attend, tensors, size, upstream):
    """The output, and the gradient of each input."""
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    out = attend(*leaves, size=size, scale=leaves[0].shape[-1] ** -0.5)
    return [out.detach(), *torch.autograd.grad(out, leaves, upstream.to(out.dtype))]


@settings(max_examples=40, deadline=None)
@given(
    size=MAPS,
    head_width=st.sampled_from([4, 16, 33]),
    value_width=st.sampled_from([4, 16, 80]),
    name=st.sampled_from(["reference", "blocks", "folded"]),
)
def test_every_backend_is_figure_4_with_every_gradient(size, head_width, value_width, name):
    exact = operands(size, head_width, value_width)
    upstream = torch.randn(exact[2].shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = with_gradients(figure_4_attention, exact, size, upstream)
    with backend(name):
        found = with_gradients(relative_attention, [tensor.float() for tensor in exact], size, upstream)
    for ours, theirs in zip(found, expected, strict=True):
        # The gradient of a table of one row is exactly nothing: it has no scale of its own.
        scale = theirs.norm() if theirs.norm() > 1e-9 else upstream.norm()
        assert (ours - theirs).norm() <= 1e-5 * scale


class Largest(TorchDispatchMode):
    """Remembers the most numbers in memory that any operation gave a tensor of."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
        sizes = [tensor.untyped_storage().nbytes() // tensor.element_size() for tensor in tensors]
        self.elements = max([self.elements, *sizes])
        return out


@pytest.mark.parametrize("members", [1, 4])
def test_a_large_map_never_has_the_matrix_of_all_pairs(members, monkeypatch):
    size, heads, head_width = (40, 52), 2, 8
    q, k, v, *_ = operands(size, head_width, batch=1, heads=heads, dtype=torch.float32)
    positions = size[0] * size[1]
    biases = [torch.randn(1, heads, positions, side) for side in size]
    monkeypatch.setattr(query_blocks, "BLOCK_LOGITS", positions * query_blocks.LEAST_CELLS)
    with Largest() as seen:  # the functions behind the operator, which itself is one opaque call
        out = query_blocks.forward(q, k, v, *biases, 1.0, members)
        query_blocks.backward(torch.ones_like(out), (q, k, v, *biases), 1.0, members, [True] * 5)
    assert seen.elements == members * query_blocks.LEAST_CELLS * positions
    with Largest() as seen:
        reference_attention(q, k, v, *biases, 1.0)
    assert seen.elements == heads * positions**2
    with Largest() as seen:
        folded_attention(q, k, v, *biases, 1.0)
    assert seen.elements <= heads * positions * (head_width + sum(size) + 8)


def test_pooled_content_has_no_zero_for_each_pair():
    q, k, v, *_ = operands((21, 33), 4, batch=1)
    with torch.no_grad(), Largest() as seen:
        content_attention(q, k, v, size=(21, 33), pool=True)
    assert seen.elements < q.shape[2] * k.shape[2]


def test_tables_are_not_spread_over_pairs_of_positions():
    for size in [(1, 96), (2, 48), (96, 1)]:
        given = [tensor.requires_grad_() for tensor in operands(size, 64, batch=1, heads=1, dtype=torch.float32)]
        with Largest() as seen, backend("blocks"):
            relative_attention(*given, size=size).sum().backward()
        assert seen.elements <= 96 * 2 * 96  # spread, one table would be 64 * 96**2 numbers


@pytest.mark.parametrize("size", [(1, 700), (700, 1), (2, 350)])
def test_long_maps_are_figure_4_with_every_gradient(size):
    exact = operands(size, 16, batch=1, heads=2)
    upstream = torch.randn(exact[2].shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = with_gradients(figure_4_attention, exact, size, upstream)
    found = with_gradients(relative_attention, [tensor.float() for tensor in exact], size, upstream)
    for ours, theirs in zip(found, expected, strict=True):
        scale = theirs.norm() if theirs.norm() > 1e-9 else upstream.norm()
        assert (ours - theirs).norm() <= 1e-5 * scale


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1, 4096), (2, 2048)])
def test_long_maps_take_at_most_the_memory_of_the_plain_matrix(size):
    given = [tensor.requires_grad_() for tensor in operands(size, 128, batch=1, heads=1, dtype=torch.float32)]

    def train(attend):
        torch.autograd.grad(attend(*given, size=size, scale=0.1).sum(), given)

    with freed_at_once():
        peaks = [peak_memory(partial(train, attend), CPU) for attend in (relative_attention, figure_4_attention)]
    if None in peaks:
        pytest.skip("this system does not tell")
    assert peaks[0] <= peaks[1]
    assert peaks[0] <= 400 * 2**20  # six matrices of 4096 x 4096; one table spread over pairs has 128


def test_what_is_kept_for_the_backward_pass_grows_with_the_sides_of_the_map_alone():
    size = (21, 23)
    given = [tensor.requires_grad_() for tensor in operands(size, 8, batch=1, heads=2)]
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda t: t):
        relative_attention(*given, size=size)
    assert max(kept) == given[0].numel() // 8 * max(8, *size)  # vectors, or one bias


def test_the_public_operator_takes_tables_of_other_sizes():
    q, k, v, *_ = operands((3, 5), 8)
    *_, rel_height, rel_width = operands((7, 2), 8, seed=3)
    shorter = rel_height[4:9]  # distances -2 .. 2 of a table that holds -6 .. 6
    longer = torch.nn.functional.interpolate(rel_width.T[None], size=9, mode="linear", align_corners=True)[0].T
    expected = figure_4_attention(q, k, v, shorter, longer, (3, 5), 8**-0.5)
    torch.testing.assert_close(relative_attention(q, k, v, rel_height, rel_width, size=(3, 5)), expected)


def test_queries_of_one_map_attend_to_keys_of_another():
    q, *_ = operands((5, 4), 8, batch=1)
    _, k, v, *_ = operands((3, 7), 8, batch=1)
    rel_height, rel_width = torch.randn(2 * 5 - 1, 8).double(), torch.randn(2 * 7 - 1, 8).double()
    found = relative_attention(q, k, v, rel_height, rel_width, size=(5, 4), key_size=(3, 7))
    # Distances -4 .. 2 of -4 .. 4, and -3 .. 6 of -6 .. 6.
    expected = figure_4_attention(q, k, v, rel_height[:7], rel_width[3:], (5, 4), 8**-0.5, (3, 7))
    torch.testing.assert_close(found, expected)


def test_keys_of_a_part_of_the_map_are_that_part_of_the_whole():
    q, k, v, rel_height, rel_width = operands((4, 5), 8)
    found = relative_attention(
        q, k[:, :, :10], v[:, :, :10], rel_height, rel_width, size=(4, 5), key_size=(2, 5), scale=1.0
    )
    content = q @ k.transpose(2, 3)
    position = position_logits(q, rel_height, rel_width, (4, 5))
    logits = (content + position)[..., :10]
    torch.testing.assert_close(found, logits.softmax(-1) @ v[:, :, :10])


def position_logits(q, rel_height, rel_width, size):
    """q r^T, pair by pair."""
    row, column = (axis.flatten() for axis in torch.meshgrid(*map(torch.arange, size), indexing="ij"))
    vertical = rel_height[row[None] - row[:, None] + size[0] - 1]
    horizontal = rel_width[column[None] - column[:, None] + size[1] - 1]
    return torch.einsum("bnid,ijd->bnij", q, vertical + horizontal)


@pytest.mark.parametrize("size", [(4, 5), (21, 20)])
def test_absolute_and_content_attention_are_their_formulas(size):
    q, k, v, *_ = operands(size, 8, 4)
    rows, columns = torch.randn(size[0], 8).double(), torch.randn(size[1], 8).double()
    place = (rows[:, None] + columns[None]).flatten(0, 1)
    expected = (0.5 * q @ (k + place).transpose(2, 3)).softmax(-1) @ v
    torch.testing.assert_close(absolute_attention(q, k, v, rows, columns, size=size, scale=0.5), expected)
    expected = (8**-0.5 * q @ k.transpose(2, 3)).softmax(-1) @ v
    torch.testing.assert_close(content_attention(q, k, v), expected)


@pytest.mark.parametrize("size", [(14, 14), (19, 20), (20, 20)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_precision_is_the_same_on_both_sides_of_the_choice(size, dtype):
    given = [x.requires_grad_() for x in operands(size, 32, batch=1, heads=2, dtype=dtype)]
    upstream = torch.randn(1, 2, size[0] * size[1], 32, dtype=dtype)
    out = relative_attention(*given, size=size)
    exact = [tensor.detach().double().requires_grad_() for tensor in given]
    expected = figure_4_attention(*exact, size, 32**-0.5)
    found = [out, *torch.autograd.grad(out, given, upstream)]
    wanted = [expected, *torch.autograd.grad(expected, exact, upstream.double())]
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    for ours, theirs in zip(found, wanted, strict=True):
        assert (ours.double() - theirs).norm() <= tolerance * theirs.norm()


def test_sizes_may_be_numpys_numbers_and_lists():
    given = operands((3, 4), 8)
    expected = relative_attention(*given, size=(3, 4))
    torch.testing.assert_close(relative_attention(*given, size=list(np.array([3, 4]))), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": torch.zeros(2, 6, 4)}, "q must be"),
        ({"size": (2, 4)}, "8 positions, but q has 6"),
        ({"size": (-2, -3)}, r"size must be \(H, W\), two whole numbers of at least 1, got \(-2, -3\)"),
        ({"size": (2.0, 3.0)}, "size must be"),
        ({"size": (2, 3, 1)}, "size must be"),
        ({"size": 6}, "size must be"),
        ({"k": torch.zeros(2, 3, 6, 5)}, "k has shape"),
        ({"v": torch.zeros(2, 3, 5, 4)}, "v has shape"),
        ({"rel_height": torch.zeros(4, 4)}, "rel_height has shape"),
        ({"rel_width": torch.zeros(5, 3)}, "rel_width has shape"),
        ({"v": torch.zeros(2, 3, 6, 4, dtype=torch.float16)}, "v is torch.float16"),
        ({"key_size": (4, 4)}, r"key_size \(4, 4\) is 16 positions, but k has 6"),
        ({"key_size": 6}, r"key_size must be \(H, W\)"),
        ({"q": torch.zeros(2, 3, 6, 4, dtype=torch.int64)}, "q is torch.int64"),
        ({"q": torch.zeros(2, 3, 6, 0)}, r"q has shape \(2, 3, 6, 0\)"),
        ({"k": torch.zeros(1, 3, 6, 4)}, r"k has shape \(1, 3, 6, 4\)"),
        ({"v": torch.zeros(2, 6, 4)}, "v must be"),
        ({"k": None}, "k should be a tensor"),
        ({"rel_height": None}, "rel_height should be a tensor"),
        ({"scale": torch.tensor(1.0)}, "scale should be a number"),
        ({"scale": "1"}, "scale should be a number"),
        ({"k": torch.zeros(2, 3, 8, 4), "v": torch.zeros(2, 3, 8, 4)}, r"k has 8; .*key_size"),
        ({"rel_width": torch.zeros(5, 4, device="meta")}, "rel_width is torch.float32 on meta"),
    ],
)
def test_what_does_not_belong_together_is_named(change, message):
    names = ("q", "k", "v", "rel_height", "rel_width")
    given = dict(zip(names, operands((2, 3), 4, dtype=torch.float32), strict=True)) | {"size": (2, 3)} | change
    size = given.pop("size")
    with pytest.raises(ValueError, match=message) as error:
        relative_attention(**given, size=size)
    assert "\n" not in str(error.value)
