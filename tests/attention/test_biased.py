"""The primitive: float64, masks, broadcasting, precision, the choice of gradients, and messages."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import botvision
from botvision.attention import backend, biased_attention, reference_attention

BACKENDS = ["reference", "blocks", "folded"]
NAMES = ("q", "k", "v", "bias_height", "bias_width")


def operands(queries=30, key_size=(4, 6), *, batch=2, heads=3, width=8, value_width=5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(queries)
    keys = key_size[0] * key_size[1]
    shapes = [(queries, width), (keys, width), (keys, value_width), *((queries, side) for side in key_size)]
    return [torch.randn(batch, heads, *shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


def explicit(q, k, v, bias_height, bias_width, scale):
    """The matrix of logits, key by key."""
    width = bias_width.shape[-1]
    columns = [
        (q * k[:, :, None, j]).sum(-1) * scale + bias_height[..., j // width] + bias_width[..., j % width]
        for j in range(k.shape[2])
    ]
    return torch.einsum("bnij,bnje->bnie", torch.stack(columns, dim=-1).softmax(-1), v)


def with_gradients(attend, tensors):
    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    out = attend(*leaves)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return [out.detach(), *torch.autograd.grad(out, leaves, weights.to(out.dtype))]


def test_it_is_public():
    assert botvision.biased_attention is biased_attention


@pytest.mark.parametrize("name", BACKENDS)
@settings(max_examples=20, deadline=None)
@given(queries=st.integers(1, 40), key_size=st.tuples(st.integers(1, 9), st.integers(1, 9)), scale=st.floats(0.1, 2))
def test_values_and_all_five_gradients_are_those_of_float64(name, queries, key_size, scale):
    exact = operands(queries, key_size)
    expected = with_gradients(lambda *tensors: explicit(*tensors, scale), exact)
    with backend(name):
        found = with_gradients(
            lambda *tensors: biased_attention(*tensors, scale=scale), [tensor.float() for tensor in exact]
        )
    for ours, theirs in zip(found, expected, strict=True):
        # Where there is a single key, all gradients but that of the values are exactly 0: the numbers that they are the
        # difference of are about 1.
        assert (ours - theirs).norm() <= 1e-5 * max(theirs.norm(), theirs.numel() ** 0.5)


@pytest.mark.parametrize("name", BACKENDS)
def test_masked_rows_and_columns_are_left_out(name):
    q, k, v, bias_height, bias_width = operands(key_size=(4, 6))
    bias_height[..., 2:] = -math.inf
    bias_width[..., 5:] = -math.inf
    with backend(name):
        found = with_gradients(biased_attention, [q, k, v, bias_height, bias_width])
    # The same on the part of the map that is left.
    inside = [tensor.unflatten(2, (4, 6))[:, :, :2, :5].flatten(2, 3) for tensor in (k, v)]
    expected = with_gradients(biased_attention, [q, *inside, bias_height[..., :2], bias_width[..., :5]])
    torch.testing.assert_close(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1])
    for ours, theirs in zip(found[2:4], expected[2:4], strict=True):
        on_map = ours.unflatten(2, (4, 6))
        torch.testing.assert_close(on_map[:, :, :2, :5].flatten(2, 3), theirs)
        assert not on_map[:, :, 2:].any()
        assert not on_map[:, :, :, 5:].any()
    torch.testing.assert_close(found[4][..., :2], expected[4])
    assert not found[4][..., 2:].any()
    torch.testing.assert_close(found[5][..., :5], expected[5])


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("which", ["bias_height", "bias_width"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_query_that_may_look_nowhere_gives_zeros_without_gradients(name, which, dtype):
    given = operands(dtype=dtype)
    given[NAMES.index(which)][0, 1, 7] = -math.inf
    with backend(name):
        out, *grads = with_gradients(biased_attention, given)
    assert not out[0, 1, 7].any()
    for key, grad in zip(NAMES, grads, strict=True):
        assert grad.isfinite().all(), key
    for grad in (grads[0], grads[3], grads[4]):
        assert not grad[0, 1, 7].any()
        assert grad[0, 1, 6].any()
    # The other queries, and what keys and values get from them, are as if it were not there.
    rest = [index for index in range(30) if index != 7]
    without = [
        given[0][:1, 1:2, rest],
        given[1][:1, 1:2],
        given[2][:1, 1:2],
        *(bias[:1, 1:2, rest] for bias in given[3:]),
    ]
    expected = biased_attention(*(tensor.double() for tensor in without))
    torch.testing.assert_close(out[:1, 1:2, rest].double(), expected, rtol=2e-2, atol=2e-2)


def test_biases_may_be_shared_by_images_and_heads():
    q, k, v, bias_height, bias_width = operands()
    shared = [q, k, v, bias_height[:1], bias_width[:, :1]]
    spread = [q, k, v, bias_height[:1].expand(2, -1, -1, -1), bias_width[:, :1].expand(-1, 3, -1, -1)]
    found, expected = with_gradients(biased_attention, shared), with_gradients(biased_attention, spread)
    torch.testing.assert_close(found[:4], expected[:4])
    torch.testing.assert_close(found[4], expected[4].sum(0, keepdim=True))
    torch.testing.assert_close(found[5], expected[5].sum(1, keepdim=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_float32_biases_beside_half_precision_keep_theirs(dtype):
    q, k, v, *biases = operands(queries=40, width=32)
    biases = [(100 + bias).float() for bias in biases]  # of which half precision would keep less than one digit
    found = biased_attention(q.to(dtype), k.to(dtype), v.to(dtype), *biases)
    expected = reference_attention(*(x.to(dtype).double() for x in (q, k, v)), *(x.double() for x in biases), 32**-0.5)
    assert found.dtype == dtype
    assert (found.double() - expected).norm() < 1e-2 * expected.norm()


def test_autocast_casts_the_vectors_and_not_the_biases():
    q, k, v, *biases = operands(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = biased_attention(q, k, v, *biases)
    torch.testing.assert_close(found, biased_attention(q.bfloat16(), k.bfloat16(), v.bfloat16(), *biases))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"bias_height": torch.zeros(2, 3, 30, 5)}, "bias_height.*24|24.*bias_height|5 x 6"),
        ({"bias_height": torch.zeros(3, 30, 4)}, "bias_height"),
        ({"bias_width": torch.zeros(2, 2, 30, 6)}, "bias_width"),
        ({"bias_width": torch.zeros(2, 3, 29, 6)}, "bias_width.*30"),
        ({"bias_width": torch.zeros(2, 3, 30, 6).bfloat16()}, "bias_width.*bfloat16"),
        ({"bias_width": torch.zeros(2, 3, 30, 6, device="meta")}, "bias_width.*meta"),
        ({"bias_width": None}, "bias_width"),
        ({"q": torch.zeros(2, 3, 30, 7)}, "k has shape"),
        ({"scale": "1"}, "scale"),
    ],
)
def test_what_does_not_belong_together_is_named(change, named):
    tensors = dict(zip(NAMES, operands(dtype=torch.float32), strict=True))
    with pytest.raises(ValueError, match=named) as error:
        biased_attention(**(tensors | change))
    assert "\n" not in str(error.value)
