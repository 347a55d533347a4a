"""The operator against a loop over pairs, against float64, and against what it must not do."""

import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from botvision.attention import backend, position_attention, relative_attention
from botvision.attention.backends import query_blocks
from botvision.attention.positions import relative_biases
from botvision.attention.reference import figure_4_attention

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


def by_backend(name):
    """relative_attention by one backend, with the arguments of figure_4_attention."""

    def attend(q, k, v, rel_height, rel_width, size, scale):
        with backend(name):
            return relative_attention(q, k, v, rel_height, rel_width, size=size, scale=scale)

    return attend


BY_BACKEND = [by_backend(name) for name in ("reference", "blocks", "folded")]


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (4, 2), (1, 5), (3, 1)])
@pytest.mark.parametrize("attend", [figure_4_attention, *BY_BACKEND])
def test_it_is_the_sum_over_pairs(attend, size):
    given = operands(size, head_width=4, value_width=3, batch=1, heads=2)
    expected = attention_by_loop(*given, size=size, scale=0.7)
    torch.testing.assert_close(attend(*given, size, 0.7), expected, rtol=1e-12, atol=1e-12)


def test_positions_alone_are_the_sum_over_pairs_without_content():
    q, k, v, *tables = operands((3, 4), head_width=4, batch=1)
    expected = attention_by_loop(q, torch.zeros_like(k), v, *tables, size=(3, 4), scale=0.5)
    torch.testing.assert_close(position_attention(q, v, *tables, size=(3, 4)), expected, rtol=1e-12, atol=1e-12)


def with_gradients(attend, tensors, size, upstream):
    """The output, and the gradient of each input."""
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    out = attend(*leaves, size, leaves[0].shape[-1] ** -0.5)
    return [out.detach(), *torch.autograd.grad(out, leaves, upstream.to(out.dtype))]


@settings(max_examples=25, deadline=None)
@given(size=MAPS, head_width=st.sampled_from([4, 16, 33]), value_width=st.sampled_from([4, 16, 80]))
def test_every_backend_is_figure_4_with_every_gradient(size, head_width, value_width):
    exact = operands(size, head_width, value_width)
    upstream = torch.randn(exact[2].shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = with_gradients(figure_4_attention, exact, size, upstream)
    single = [tensor.float() for tensor in exact]
    for found in (with_gradients(attend, single, size, upstream) for attend in BY_BACKEND):
        for ours, theirs in zip(found, expected, strict=True):
            # The gradient of a table of one row is exactly nothing: it has no scale of its own.
            scale = theirs.norm() if theirs.norm() > 1e-9 else upstream.norm()
            assert (ours - theirs).norm() <= 1e-5 * scale


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation gave."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
        self.elements = max([self.elements, *sizes])
        return out


def test_a_large_map_never_has_the_matrix_of_all_pairs(monkeypatch):
    size, heads = (40, 52), 2
    q, k, v, *tables = operands(size, 8, batch=1, heads=heads, dtype=torch.float32)
    positions = size[0] * size[1]
    monkeypatch.setattr(query_blocks, "BLOCK_LOGITS", 32 * positions)
    biases = relative_biases(q, *tables, size, size, 8**-0.5)
    with Largest() as seen:  # the function behind the operator, which itself is one opaque call
        query_blocks.forward(q, k, v, *biases, 8**-0.5)
    assert seen.elements <= query_blocks.LEAST_QUERIES * positions
    with Largest() as seen:
        figure_4_attention(q, k, v, *tables, size, 8**-0.5)
    assert seen.elements == heads * positions**2


def test_what_is_kept_for_the_backward_pass_is_what_came_in_and_out():
    size = (21, 23)
    given = [tensor.requires_grad_() for tensor in operands(size, 8, batch=1, heads=2)]
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda t: t):
        relative_attention(*given, size=size)
    assert max(kept) <= 2 * 21 * 23 * 23  # heads, queries, and a bias for each row or column: never a pair of positions


def test_the_public_operator_takes_tables_of_other_sizes():
    q, k, v, *_ = operands((3, 5), 8)
    *_, rel_height, rel_width = operands((7, 2), 8, seed=3)
    shorter = rel_height[4:9]  # distances -2 .. 2 of a table that holds -6 .. 6
    longer = torch.nn.functional.interpolate(rel_width.T[None], size=9, mode="linear", align_corners=True)[0].T
    expected = figure_4_attention(q, k, v, shorter, longer, (3, 5), 8**-0.5)
    torch.testing.assert_close(relative_attention(q, k, v, rel_height, rel_width, size=(3, 5)), expected)


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
    ],
)
def test_what_does_not_belong_together_is_named(change, message):
    names = ("q", "k", "v", "rel_height", "rel_width")
    given = dict(zip(names, operands((2, 3), 4, dtype=torch.float32), strict=True)) | {"size": (2, 3)} | change
    size = given.pop("size")
    with pytest.raises(ValueError, match=message) as error:
        relative_attention(**given, size=size)
    assert "\n" not in str(error.value)
