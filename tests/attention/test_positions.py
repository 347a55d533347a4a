"""The biases that relative positions make: against every pair, and their precision."""

from types import SimpleNamespace

import pytest
import torch

from botvision.attention.positions import product_dtype, relative_biases


@pytest.mark.parametrize(("size", "key_size"), [((3, 4), (3, 4)), ((1, 5), (4, 1)), ((5, 1), (2, 6)), ((1, 1), (1, 1))])
def test_they_are_the_products_with_the_vector_of_every_distance(size, key_size):
    torch.manual_seed(0)
    q = torch.randn(2, 3, size[0] * size[1], 4, dtype=torch.float64)
    rel_height, rel_width = (torch.randn(a + b - 1, 4).double() for a, b in zip(size, key_size, strict=True))
    bias_height, bias_width = relative_biases(q, rel_height, rel_width, size, key_size, 0.3)
    for query in range(size[0] * size[1]):
        row, column = divmod(query, size[1])
        for key in range(key_size[0]):
            expected = 0.3 * (q[:, :, query] * rel_height[key - row + size[0] - 1]).sum(-1)
            torch.testing.assert_close(bias_height[:, :, query, key], expected)
        for key in range(key_size[1]):
            expected = 0.3 * (q[:, :, query] * rel_width[key - column + size[1] - 1]).sum(-1)
            torch.testing.assert_close(bias_width[:, :, query, key], expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_autocast_have_biases_of_float32(dtype):
    torch.manual_seed(0)
    q, rel_height, rel_width = (torch.randn(*shape).to(dtype) for shape in [(1, 2, 12, 64), (5, 64), (7, 64)])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = relative_biases(q, rel_height, rel_width, (3, 4), (3, 4), 0.3)
    expected = relative_biases(q.double(), rel_height.double(), rel_width.double(), (3, 4), (3, 4), 0.3)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == torch.float32
        assert (ours - theirs).norm() < 1e-6 * theirs.norm()


def rounded_to_tf32(tensor):
    """As a card rounds the factors of a float32 product where ``allow_tf32`` is on: 10 bits behind the first."""
    bits = tensor.contiguous().view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_tensor_cores_that_round_float32_do_not_round_the_position_products(dtype):
    """On a card float32 becomes float64, which has no such mode, and half precision survives the rounding."""
    on_card = SimpleNamespace(dtype=dtype, device=torch.device("cuda"))
    factor = torch.randn(1000, generator=torch.Generator().manual_seed(0)).to(dtype).to(product_dtype(on_card))
    assert factor.dtype == torch.float64 or torch.equal(rounded_to_tf32(factor), factor)
