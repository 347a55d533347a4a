"""Pooling inside attention: the mean over 2x2 cells of what comes out, by PyTorch's pooling."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from botvision.attention import (
    BACKENDS,
    absolute_attention,
    backend,
    content_attention,
    custom_op,
    figure_4_attention,
    position_attention,
    relative_attention,
)
from botvision.attention.backends import query_blocks
from botvision.attention.pooling import by_cells
from botvision.errors import UserError

SIDES = st.integers(1, 9)
BY_BACKEND = [name for name in BACKENDS if name != "triton"]


@pytest.fixture
def small_blocks(monkeypatch):
    """Several blocks of cells on a small map."""
    monkeypatch.setattr(query_blocks, "BLOCK_LOGITS", 64)
    monkeypatch.setattr(query_blocks, "LEAST_CELLS", 5)


def draw(*shapes):
    generator = torch.Generator().manual_seed(sum(map(sum, shapes)))
    return [torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes]


def operands(size, width=4, value_width=6):
    """q, k, v and two tables."""
    positions = size[0] * size[1]
    tables = [(2 * side - 1, width) for side in size]
    return draw((2, 3, positions, width), (2, 3, positions, width), (2, 3, positions, value_width), *tables)


def pooled(out, size):
    """PyTorch's pooling of (B, heads, H*W, e)."""
    maps = out.unflatten(2, size).permute(0, 1, 4, 2, 3).flatten(0, 1)
    means = F.avg_pool2d(maps, 2, ceil_mode=True, count_include_pad=False)
    return means.unflatten(0, out.shape[:2]).permute(0, 1, 3, 4, 2).flatten(2, 3)


def assert_alike(attend, expect, tensors, size):
    """The same output and gradients of all tensors."""
    out, expected = attend(*tensors), pooled(expect(*tensors), size)
    upstream = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-12)
    own, other = (torch.autograd.grad(result, tensors, upstream) for result in (out, expected))
    torch.testing.assert_close(own, other, rtol=1e-10, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(size=st.tuples(SIDES, SIDES), name=st.sampled_from(BY_BACKEND))
def test_it_is_pytorchs_pooling_of_figure_4_by_every_backend(size, name):
    with pytest.MonkeyPatch.context() as patch, backend(name):
        patch.setattr(query_blocks, "BLOCK_LOGITS", 64)
        patch.setattr(query_blocks, "LEAST_CELLS", 5)
        attend = partial(relative_attention, size=size, pool=True)
        assert_alike(attend, partial(figure_4_attention, size=size, scale=0.5), operands(size), size)


@pytest.mark.parametrize("is_forced", [False, True])
@pytest.mark.parametrize("size", [(4, 6), (5, 7)])
@pytest.mark.parametrize("has_padding", [False, True])
@pytest.mark.parametrize("attend", [relative_attention, position_attention, absolute_attention, content_attention])
@pytest.mark.usefixtures("small_blocks")
def test_every_kind_pools_with_and_without_padding(attend, has_padding, size, is_forced):
    q, k, v, *tables = operands(size)
    if attend is absolute_attention:
        tables = [table[:side] for table, side in zip(tables, size, strict=True)]
    tensors = {relative_attention: [q, k, v, *tables], absolute_attention: [q, k, v, *tables]}
    tensors |= {position_attention: [q, v, *tables], content_attention: [q, k, v]}
    given = [tensor.detach().requires_grad_() for tensor in tensors[attend]]
    attend = partial(attend, size=size, valid_size=torch.tensor([size, (3, 4)]) if has_padding else None)
    if attend.func is content_attention:
        attend = partial(attend, key_size=size)
    with backend("blocks" if is_forced else "reference"):
        assert_alike(partial(attend, pool=True), attend, given, size)


def test_queries_may_be_on_another_map_than_the_keys():
    q, k, v, *tables = draw((1, 2, 15, 4), (1, 2, 8, 4), (1, 2, 8, 3), (7, 4), (7, 4))
    attend = partial(relative_attention, size=(3, 5), key_size=(2, 4))
    with backend("blocks"):
        assert_alike(partial(attend, pool=True), attend, [q, k, v, *tables], (3, 5))


@pytest.mark.parametrize("attend", [content_attention, absolute_attention])
def test_every_query_has_its_own_gradient_where_all_are_one_vector_in_memory(attend):
    q, k, v, *tables = (tensor.detach() for tensor in operands((4, 6)))
    attend = partial(attend, size=(4, 6), pool=True)
    rest = [k, v] if attend.func is content_attention else [k, v, tables[0][:4], tables[1][:6]]
    shared = q[:, :, :1].expand_as(q)
    weights = torch.arange(36.0, dtype=torch.float64).view(6, 6)
    with backend("blocks"):
        own, other = (
            torch.func.grad(lambda x: (weights @ attend(x, *rest)).square().sum())(x)
            for x in (shared, shared.contiguous())
        )
    torch.testing.assert_close(own, other)


def test_compiled_attention_pools_inside_and_exported_attention_does_not():
    """Formats of files do not know of cells."""
    q, k, v, *tables = operands((20, 22))

    class Pooled(torch.nn.Module):
        def forward(self, *tensors):
            return relative_attention(*tensors, size=(20, 22), pool=True)

    members, originals = [], custom_op.query_blocks.forward
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(custom_op.query_blocks, "forward", lambda *a: members.append(a[-1]) or originals(*a))
        compiled = torch.compile(Pooled(), backend="aot_eager", fullgraph=True)(q, k, v, *tables)
        exported = torch.export.export(Pooled(), (q, k, v, *tables)).module()(q, k, v, *tables)
    assert members == [4, 1]
    torch.testing.assert_close(compiled, exported)


def test_the_queries_of_a_cell_are_a_quarter_apart():
    places = torch.arange(15).view(1, 1, 15, 1)
    cells = by_cells(places, (3, 5)).view(4, 6)
    expected = [[0, 2, 4, 10, 12, 14], [1, 3, 4, 11, 13, 14], [5, 7, 9, 10, 12, 14], [6, 8, 9, 11, 13, 14]]
    assert cells.tolist() == expected


def test_pooling_of_content_needs_the_map_of_the_queries():
    q, k, v, *_ = operands((4, 6))
    with pytest.raises(UserError, match=r"pool needs size=\(H, W\)"):
        content_attention(q, k, v, pool=True)
    with pytest.raises(UserError, match=r"size \(4, 5\) is 20 positions, but q has 24"):
        content_attention(q, k, v, pool=True, size=(4, 5))
