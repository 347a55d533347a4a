"""Blocks of queries against the reference in float64: strides, dtypes, edges of the blocks, groups of heads."""

import logging

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from botvision.attention import reference_attention
from botvision.attention.backends import cpu_products, query_blocks
from botvision.attention.custom_op import fused_attention

SIDES = st.integers(1, 9)
WIDTHS = st.sampled_from([1, 8, 32])
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 1e-2}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Many blocks, on maps that a test can afford."""
    monkeypatch.setattr(query_blocks, "BLOCK_LOGITS", 64)
    monkeypatch.setattr(query_blocks, "LEAST_CELLS", 5)


def operands(queries, key_size, width, value_width, *, batch=2, heads=2, dtype=torch.float64, layout="plain"):
    """q, k, v and the two biases."""
    generator = torch.Generator().manual_seed(queries * 100 + key_size[1])

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    def vectors(positions, channels):
        if layout == "plain":
            return draw(batch, heads, positions, channels)
        if layout == "channels last":
            return draw(batch, positions, heads, channels).transpose(1, 2)
        return draw(batch, heads, channels, 2 * positions).transpose(2, 3)[:, :, ::2]  # no axis contiguous

    keys = key_size[0] * key_size[1]
    return [
        *(vectors(queries, width), vectors(keys, width), vectors(keys, value_width)),
        *(vectors(queries, side) for side in key_size),
    ]


def by_blocks(*tensors, members=1):
    return fused_attention(*tensors, 0.3, "blocks", members)


def by_reference(*tensors, members=1):
    """Cells by the mean of their queries' answers."""
    return reference_attention(*tensors, 0.3).unflatten(2, (members, -1)).mean(2)


def with_gradients(attend, tensors, upstream, members=1):
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    out = attend(*leaves, members=members)
    return [out.detach(), *torch.autograd.grad(out, leaves, upstream.to(out.dtype))]


def sizes(tensors, expected, upstream, members=1):
    """What rounding is measured against: of the output and v's gradient the norm, of others that of all their terms.

    A gradient through the softmax is a sum of p (dp - delta). Where these cancel, as in a table of one row, little is
    left of the terms, but their rounding remains.
    """
    q, k, v, *biases = (tensor.double() for tensor in tensors)
    height, width = (bias.shape[-1] for bias in biases)

    def logits(q, k, bias_height, bias_width):
        return 0.3 * q @ k.mT + bias_height.repeat_interleave(width, dim=-1) + bias_width.repeat(1, 1, 1, height)

    upstream = upstream.repeat(1, 1, members, 1) / members
    delta = (by_reference(*(tensor.double() for tensor in tensors)) * upstream).sum(dim=-1, keepdim=True)
    terms = logits(q, k, *biases).softmax(dim=-1) * ((upstream @ v.mT).abs() + delta.abs())
    leaves = [tensor.abs().requires_grad_() for tensor in (q, k, *biases)]
    of_q, of_k, *of_biases = (tensor.norm() for tensor in torch.autograd.grad(logits(*leaves), leaves, terms))
    return [expected[0].norm(), of_q, of_k, expected[3].norm(), *of_biases]


def assert_close(found, expected, tolerance, sizes):
    for ours, theirs, size in zip(found, expected, sizes, strict=True):
        assert ours.shape == theirs.shape
        assert (ours.double() - theirs).norm() <= tolerance * size


@settings(max_examples=60, deadline=None)
@given(
    cells=st.integers(1, 60),
    members=st.sampled_from([1, 4]),
    key_size=st.tuples(SIDES, SIDES),
    width=WIDTHS,
    value_width=WIDTHS,
    dtype=st.sampled_from(list(TOLERANCE)),
    layout=st.sampled_from(["plain", "channels last", "strided"]),
    large=st.sampled_from([1, 2**21]),  # by one product after the other, and by batched products
)
def test_blocks_are_the_reference_with_every_gradient(
    cells, members, key_size, width, value_width, dtype, layout, large
):
    given = operands(cells * members, key_size, width, value_width, dtype=dtype, layout=layout)
    generator = torch.Generator().manual_seed(cells)
    upstream = torch.randn(2, 2, cells, value_width, generator=generator, dtype=dtype).double()
    expected = with_gradients(by_reference, [tensor.double() for tensor in given], upstream, members)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu_products, "LARGE", large)
        found = with_gradients(by_blocks, given, upstream, members)
    assert all(tensor.dtype == dtype for tensor in found)
    assert_close(found, expected, TOLERANCE[dtype], sizes(given, expected, upstream, members))


@pytest.mark.parametrize("members", [1, 4])
def test_a_map_of_several_true_blocks(members, monkeypatch):
    monkeypatch.undo()
    queries = 33 * 40
    given = operands(queries, (33, 40), 32, 16, batch=1, heads=1, dtype=torch.float32)
    assert queries > query_blocks.BLOCK_LOGITS // queries
    upstream = torch.randn(1, 1, queries // members, 16).double()
    expected = with_gradients(by_reference, [tensor.double() for tensor in given], upstream, members)
    found = with_gradients(by_blocks, given, upstream, members)
    assert_close(found, expected, 1e-5, sizes(given, expected, upstream, members))


def test_small_maps_are_computed_many_images_at_a_time(monkeypatch):
    monkeypatch.undo()
    q, k, *_ = operands(20, (4, 5), 8, 8, batch=7)
    assert list(query_blocks.groups(q, k)) == [(slice(0, 2**20 // 800), slice(0, 2))]


def test_an_empty_batch_has_empty_results():
    given = operands(12, (3, 4), 8, 5, batch=0)
    out, *grads = with_gradients(by_blocks, given, torch.zeros(0, 2, 12, 5))
    assert out.shape == (0, 2, 12, 5)
    assert [grad.shape for grad in grads] == [tensor.shape for tensor in given]


@pytest.mark.parametrize("which", range(5))
def test_nan_reaches_what_depends_on_it(which):
    given = operands(12, (3, 4), 8, 8)
    given[which][(0,) * given[which].ndim] = float("nan")
    expected = by_reference(*given)
    assert expected.isnan().any()
    assert (by_blocks(*given).isnan() == expected.isnan()).all()


def test_the_same_input_gives_the_same_bits():
    given = operands(72, (9, 8), 32, 32, dtype=torch.float32)
    assert torch.equal(by_blocks(*given), by_blocks(*given))


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 70, 5), (129, 64, 257), (200, 3, 196)])
def test_products_are_products(shape, transposed):
    rows, inner, columns = shape
    a = torch.randn(rows, inner)
    b = torch.randn(inner, columns).T if transposed else torch.randn(columns, inner)
    torch.testing.assert_close(cpu_products.product(a, b).double(), a.double() @ b.double().T, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("is_missing", [False, True])
def test_batched_products_are_products_with_and_without_onednn(is_missing, monkeypatch):
    if is_missing:
        monkeypatch.setattr(cpu_products, "ONEDNN", None)
    monkeypatch.setattr(cpu_products, "LARGE", 1)
    for batch in [(1, 1), (2, 3)]:
        a, b = torch.randn(*batch, 33, 20), torch.randn(*batch, 20, 17).transpose(2, 3)
        expected = a.double() @ b.double().transpose(2, 3)
        torch.testing.assert_close(cpu_products.product(a, b).double(), expected, rtol=1e-5, atol=1e-4)


def test_a_build_without_onednn_computes_the_same_and_says_so(monkeypatch, caplog):
    caplog.set_level(logging.DEBUG, logger="botvision")
    monkeypatch.setattr(cpu_products, "ONEDNN", None)
    given = operands(30, (5, 6), 8, 8, dtype=torch.float32)
    torch.testing.assert_close(by_blocks(*given), by_reference(*given))
    assert "without oneDNN" in caplog.text


@pytest.mark.parametrize("shape", [(1, 6, 4), (2, 3, 5, 7, 20), (0, 3, 8)])
def test_linear_is_the_product_with_first_and_second_derivatives(shape, monkeypatch):
    monkeypatch.setattr(cpu_products, "LARGE", 1)
    torch.manual_seed(0)
    x = (torch.randn(shape) / 8).transpose(0, -2).requires_grad_()
    weight = (torch.randn(9, shape[-1]) / 8).requires_grad_()

    def derivatives(product, *inputs):
        out = product(*inputs)
        first = torch.autograd.grad(out.pow(2).sum(), inputs, create_graph=True)
        return [out, *first, *torch.autograd.grad(sum(grad.pow(2).sum() for grad in first), inputs)]

    found = derivatives(cpu_products.linear, x, weight)
    expected = derivatives(lambda x, weight: x @ weight.T, *(t.detach().double().requires_grad_() for t in (x, weight)))
    for ours, true in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.double(), true, rtol=1e-5, atol=1e-5)


def test_linear_takes_part_in_the_transforms_of_torch_func(monkeypatch):
    monkeypatch.setattr(cpu_products, "LARGE", 1)
    x, weight = torch.randn(3, 7, 4), torch.randn(2, 5, 4)

    def product(x, weight):
        return x @ weight.T

    for axes in [(0, None), (None, 0)]:
        inputs = [x, weight[0]] if axes[0] == 0 else [x[0], weight]
        found, expected = (torch.func.vmap(call, axes)(*inputs) for call in (cpu_products.linear, product))
        torch.testing.assert_close(found, expected)
    found, expected = (
        torch.func.grad(lambda x, call=call: call(x, weight[0]).pow(3).sum())(x)
        for call in (cpu_products.linear, product)
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_position_products_are_products_to_compilers_and_exporters(monkeypatch):
    """Compilers have a choice of libraries, and formats of files an operator for them."""
    monkeypatch.setattr(cpu_products, "LARGE", 1)
    inputs = torch.randn(2, 30, 8), torch.randn(9, 8)
    graphs = []

    def keep(module, _):
        graphs.append(module.graph)
        return module.forward

    class Products(torch.nn.Module):
        def forward(self, x, weight):
            return cpu_products.linear(x, weight)

    torch.compile(cpu_products.linear, backend=keep, fullgraph=True)(*inputs)
    graphs.append(torch.export.export(Products(), inputs).graph)
    for graph in graphs:
        names = [str(node.target) for node in graph.nodes]
        assert any("linear" in name for name in names)
        assert not [name for name in names if "conv" in name]
