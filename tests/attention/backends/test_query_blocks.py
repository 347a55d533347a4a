"""Blocks of queries against the definition in float64: every kind, strides, dtypes, edges of the blocks."""

import logging

import pytest
import torch
from botvision.attention.operator import operator_attention
from hypothesis import given, settings
from hypothesis import strategies as st

from botvision.attention import blocks, definition_attention, products

SIDES = st.integers(1, 9)
WIDTHS = st.sampled_from([1, 8, 32])
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 1e-2}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Many blocks, and every product by the fast library, on maps that a test can afford."""
    monkeypatch.setattr(blocks, "BLOCK_LOGITS", 64)
    monkeypatch.setattr(blocks, "LEAST_QUERIES", 5)
    monkeypatch.setattr(products, "LARGE", 1)


def operands(
    size, key_size, width, value_width, *, kind="qk+qr", batch=2, heads=2, dtype=torch.float64, layout="plain"
):
    """q, k, v and the two tables, None where the kind has none."""
    generator = torch.Generator().manual_seed(size[0] * 100 + key_size[1])

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    def vectors(positions, channels):
        if layout == "plain":
            return draw(batch, heads, positions, channels)
        if layout == "channels last":
            return draw(batch, positions, heads, channels).transpose(1, 2)
        return draw(batch, heads, channels, 2 * positions).transpose(2, 3)[:, :, ::2]  # no axis contiguous

    queries, keys = size[0] * size[1], key_size[0] * key_size[1]
    q, k, v = vectors(queries, width), vectors(keys, width), vectors(keys, value_width)
    tables = [draw(one + other - 1, width) for one, other in zip(size, key_size, strict=True)]
    return [q, k if "qk" in kind else None, v, *(tables if "qr" in kind else [None, None])]


def with_gradients(attend, tensors, size, key_size, upstream):
    leaves = [None if tensor is None else tensor.detach().requires_grad_() for tensor in tensors]
    out = attend(*leaves, size, 0.3, key_size)
    grads = torch.autograd.grad(out, [leaf for leaf in leaves if leaf is not None], upstream.to(out.dtype))
    return [out.detach(), *grads]


def assert_close(found, expected, tolerance, upstream):
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        # The gradient of a table of one row is exactly nothing: it has no scale of its own.
        scale = theirs.norm() if theirs.norm() > 1e-9 else upstream.norm()
        assert (ours.double() - theirs).norm() <= tolerance * scale


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(SIDES, SIDES),
    other=st.one_of(st.none(), st.tuples(SIDES, SIDES)),
    width=WIDTHS,
    value_width=WIDTHS,
    kind=st.sampled_from(["qk+qr", "qk", "qr"]),
    dtype=st.sampled_from(list(TOLERANCE)),
    layout=st.sampled_from(["plain", "channels last", "strided"]),
)
def test_blocks_are_the_definition_with_every_gradient(size, other, width, value_width, kind, dtype, layout):
    key_size = other or size
    given = operands(size, key_size, width, value_width, kind=kind, dtype=dtype, layout=layout)
    upstream = torch.randn(2, 2, size[0] * size[1], value_width, dtype=dtype).double()
    exact = [None if tensor is None else tensor.double() for tensor in given]
    expected = with_gradients(definition_attention, exact, size, key_size, upstream)
    found = with_gradients(operator_attention, given, size, key_size, upstream)
    assert all(tensor.dtype == dtype for tensor in found)
    assert_close(found, expected, TOLERANCE[dtype], upstream)


def test_a_map_of_several_true_blocks(monkeypatch):
    monkeypatch.undo()
    size = (33, 40)
    given = operands(size, size, 32, 16, batch=1, heads=1, dtype=torch.float32)
    assert size[0] * size[1] > blocks.BLOCK_LOGITS // (size[0] * size[1])
    upstream = torch.randn(1, 1, size[0] * size[1], 16).double()
    expected = with_gradients(definition_attention, [tensor.double() for tensor in given], size, size, upstream)
    assert_close(with_gradients(operator_attention, given, size, size, upstream), expected, 1e-5, upstream)


def test_an_empty_batch_has_empty_results_and_tables_without_gradient():
    given = operands((3, 4), (3, 4), 8, 5, batch=0)
    out, *grads = with_gradients(operator_attention, given, (3, 4), (3, 4), torch.zeros(0, 2, 12, 5))
    assert out.shape == (0, 2, 12, 5)
    assert [grad.shape for grad in grads] == [tensor.shape for tensor in given]
    assert not any(grad.any() for grad in grads[3:])


@pytest.mark.parametrize("which", range(5))
def test_nothing_known_comes_of_not_a_number(which):
    given = operands((3, 4), (3, 4), 8, 8)
    given[which][(0,) * given[which].ndim] = float("nan")
    found = operator_attention(*given, (3, 4), 1.0, (3, 4))
    expected = definition_attention(*given, (3, 4), 1.0)
    assert expected.isnan().any()
    assert (found.isnan() == expected.isnan()).all()


def test_the_same_input_gives_the_same_bits():
    given = operands((9, 8), (9, 8), 32, 32, dtype=torch.float32)
    first, second = (operator_attention(*given, (9, 8), 1.0, (9, 8)) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 70, 5), (129, 64, 257), (200, 3, 196)])
def test_products_are_products(shape, transposed):
    rows, inner, columns = shape
    a = torch.randn(rows, inner)
    b = torch.randn(inner, columns).T if transposed else torch.randn(columns, inner)
    torch.testing.assert_close(products.product(a, b).double(), a.double() @ b.double().T, rtol=1e-5, atol=1e-4)


def test_a_build_without_the_fast_library_computes_the_same_and_says_so(monkeypatch, caplog):
    caplog.set_level(logging.DEBUG, logger="botvision")
    monkeypatch.setattr(products, "ONEDNN", None)
    given = operands((5, 6), (5, 6), 8, 8)
    found = operator_attention(*given, (5, 6), 1.0, (5, 6))
    torch.testing.assert_close(found, definition_attention(*given, (5, 6), 1.0))
    assert "without oneDNN" in caplog.text
