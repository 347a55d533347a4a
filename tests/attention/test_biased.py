"""The primitive against the formula in float64: values, all five gradients, and masks by -inf."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import botvision
from botvision.attention import backend
from botvision.errors import UserError

BACKENDS = ("reference", "blocks", "folded")
SIDES = st.integers(1, 9)


def operands(queries, size, seed=0):
    """q, k, v and the two biases, in float64."""
    generator = torch.Generator().manual_seed(seed)
    keys = size[0] * size[1]
    shapes = [(2, 3, queries, 8), (2, 3, keys, 8), (2, 3, keys, 5), (2, 3, queries, size[0]), (2, 3, queries, size[1])]
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def formula(q, k, v, bias_height, bias_width):
    """The definition, with the whole matrix; a query without any key gives zeros."""
    logits = 0.3 * torch.einsum("bnid,bnjd->bnij", q, k)
    logits = logits + (bias_height[..., :, None] + bias_width[..., None, :]).flatten(-2)
    return torch.nan_to_num(logits.softmax(dim=-1)) @ v


def with_gradients(attend, tensors, upstream):
    """The output, and the gradient of each input."""
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    out = attend(*leaves)
    return [out.detach(), *torch.autograd.grad(out, leaves, upstream.to(out.dtype))]


@pytest.mark.parametrize("name", BACKENDS)
@settings(max_examples=15, deadline=None)
@given(queries=st.integers(1, 30), size=st.tuples(SIDES, SIDES), seed=st.integers(0, 99))
def test_values_and_five_gradients_are_those_of_float64(name, queries, size, seed):
    exact = operands(queries, size, seed)
    upstream = torch.randn(2, 3, queries, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = with_gradients(formula, exact, upstream)
    with backend(name):
        single = [tensor.float() for tensor in exact]
        found = with_gradients(lambda *given: botvision.biased_attention(*given, scale=0.3), single, upstream)
    for ours, theirs in zip(found, expected, strict=True):
        # With one key, gradients are exactly zero and have no scale of their own.
        norm = theirs.norm() if theirs.norm() > 1e-9 else upstream.norm()
        assert (ours - theirs).norm() <= 1e-5 * norm


@pytest.mark.parametrize("name", BACKENDS)
def test_minus_infinity_masks_rows_and_columns(name):
    q, k, v, bias_height, bias_width = operands(12, (4, 5))
    bias_height[:, :, :, 3] = -torch.inf
    bias_width[:, :, :, 0] = -torch.inf
    bias_width[:, :, 7] = -torch.inf  # this query has no key at all
    there = torch.tensor([[x > 0 and y < 3 for x in range(5)] for y in range(4)]).flatten()
    upstream = torch.ones(2, 3, 12, 5, dtype=torch.float64)
    with backend(name):
        out, *grads = with_gradients(
            lambda *given: botvision.biased_attention(*given, scale=0.3), [q, k, v, bias_height, bias_width], upstream
        )
    logits = 0.3 * q @ k[:, :, there].transpose(-2, -1)
    logits = logits + (bias_height[..., :3, None] + bias_width[..., None, 1:]).flatten(-2)
    expected = logits.softmax(dim=-1) @ v[:, :, there]
    others = torch.arange(12) != 7
    torch.testing.assert_close(out[:, :, others], expected[:, :, others])
    assert not out[:, :, 7].any()
    assert all(grad.isfinite().all() for grad in grads)
    assert not grads[1][:, :, ~there].any()
    assert not grads[2][:, :, ~there].any()
    assert not any(grad[:, :, 7].any() for grad in (grads[0], grads[3], grads[4]))


def test_only_the_gradients_that_are_asked_for_are_computed():
    q, k, v, bias_height, bias_width = operands(12, (4, 5))
    q.requires_grad_()
    with backend("blocks"):
        botvision.biased_attention(q, k, v, bias_height, bias_width).sum().backward()
    assert q.grad is not None
    assert k.grad is None


def test_biases_of_another_map_are_refused_by_name():
    q, k, v, bias_height, bias_width = operands(12, (4, 5))
    with pytest.raises(UserError, match="bias_height"):
        botvision.biased_attention(q, k, v, bias_height[..., :3], bias_width)
    with pytest.raises(UserError, match="nonsense"), backend("nonsense"):
        pass
