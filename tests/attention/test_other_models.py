"""Attention blocks of other models on the primitive: timm's BoTNet, SAM and ViTDet, MViTv2.

Each block computes the whole matrix of logits in plain PyTorch, written here; the primitive must give its outputs and
the gradients of everything that goes in.
"""

import pytest
import torch
import torch.nn.functional as F

from botvision.attention import biased_attention


def draw(*shape):
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def assert_equal_with_gradients(ours, theirs, leaves):
    torch.testing.assert_close(ours, theirs)
    weights = torch.randn_like(theirs)
    found = torch.autograd.grad(ours, leaves, weights, retain_graph=True)
    for a, b in zip(found, torch.autograd.grad(theirs, leaves, weights), strict=True):
        torch.testing.assert_close(a, b)


def scaled_distance_vectors(table, queries, keys):
    """(queries, keys, d): the vector of every pair of coordinates, the shorter axis stretched to the longer one's.

    As in ViTDet's and MViTv2's code: the table is resampled to 2 max(queries, keys) - 1 rows first, the distance of
    query i and key j is i max(K/Q, 1) - j max(Q/K, 1) + (K - 1) max(Q/K, 1).
    """
    rows = 2 * max(queries, keys) - 1
    if len(table) != rows:
        table = F.interpolate(table.T[None], size=rows, mode="linear")[0].T
    query_step, key_step = max(keys / queries, 1.0), max(queries / keys, 1.0)
    distance = torch.arange(queries)[:, None] * query_step - torch.arange(keys)[None, :] * key_step
    return table[(distance + (keys - 1) * key_step).long()]


def decomposed_biases(q, rel_height, rel_width, size, key_size):
    """(B, heads, N, H') and (B, heads, N, W') of unscaled queries."""
    grid = q.unflatten(2, size)
    height = torch.einsum("bnhwc,hkc->bnhwk", grid, scaled_distance_vectors(rel_height, size[0], key_size[0]))
    width = torch.einsum("bnhwc,wkc->bnhwk", grid, scaled_distance_vectors(rel_width, size[1], key_size[1]))
    return height.flatten(2, 3), width.flatten(2, 3)


def whole_matrix(q, k, v, bias_height, bias_width):
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    on_map = logits.unflatten(-1, (bias_height.shape[-1], bias_width.shape[-1]))
    logits = (on_map + bias_height[..., :, None] + bias_width[..., None, :]).flatten(-2)
    return logits.softmax(-1) @ v


@pytest.mark.parametrize(
    ("size", "key_size", "table_lengths"),
    [
        ((6, 7), (6, 7), (6, 7)),  # SAM and ViTDet
        ((21, 22), (21, 22), (21, 22)),  # the same by blocks
        ((6, 7), (6, 7), (4, 9)),  # fine-tuned at another size
        ((8, 8), (4, 2), (8, 8)),  # MViTv2: keys and values are pooled
        ((4, 6), (8, 6), (8, 6)),  # MViTv2: queries are pooled
        ((28, 28), (14, 7), (28, 28)),
    ],
)
def test_decomposed_positions_of_vitdet_sam_and_mvitv2(size, key_size, table_lengths):
    torch.manual_seed(0)
    queries, keys = size[0] * size[1], key_size[0] * key_size[1]
    leaves = [draw(2, 2, queries, 8), draw(2, 2, keys, 8), draw(2, 2, keys, 6)]
    leaves += [draw(2 * length - 1, 8) for length in table_lengths]
    q, k, v, *tables = leaves
    biases = decomposed_biases(q, *tables, size, key_size)
    assert_equal_with_gradients(biased_attention(q, k, v, *biases), whole_matrix(q, k, v, *biases), leaves)


def test_a_window_that_sticks_out_of_the_image_may_be_masked_instead_of_padded():
    """ViTDet pads windows with zeros, which take part in the softmax; -inf leaves them out."""
    torch.manual_seed(0)
    q, k, v = draw(1, 2, 25, 8), draw(1, 2, 25, 8), draw(1, 2, 25, 8)
    bias_height, bias_width = torch.zeros(1, 1, 25, 5).double(), torch.zeros(1, 1, 25, 5).double()
    bias_height[..., 3:] = bias_width[..., 4:] = -torch.inf
    found = biased_attention(q, k, v, bias_height, bias_width)
    inside = [tensor.unflatten(2, (5, 5))[:, :, :3, :4].flatten(2, 3) for tensor in (k, v)]
    assert_equal_with_gradients(found, F.scaled_dot_product_attention(q, *inside), [q, k, v])


@pytest.mark.parametrize("size", [(5, 7), (21, 20)])
def test_timms_bottleneck_attention(size):
    layers = pytest.importorskip("timm.layers.bottleneck_attn")
    torch.manual_seed(0)
    layer = layers.BottleneckAttn(16, feat_size=size, num_heads=2, dim_head=8).double()
    x = draw(2, 16, *size)
    q, k, v = (part.unflatten(1, (2, 8)).flatten(3).transpose(2, 3) for part in layer.qkv(x).chunk(3, dim=1))
    tables = layer.pos_embed.height_rel, layer.pos_embed.width_rel
    # timm's tables begin with the key that is farthest before the query, and meet unscaled queries.
    grid = q.unflatten(2, size)
    steps = [torch.arange(side)[None, :] - torch.arange(side)[:, None] + side - 1 for side in size]
    bias_height = torch.einsum("bnhwc,hkc->bnhwk", grid, tables[0][steps[0]]).flatten(2, 3)
    bias_width = torch.einsum("bnhwc,wkc->bnhwk", grid, tables[1][steps[1]]).flatten(2, 3)
    found = biased_attention(q, k, v, bias_height, bias_width).transpose(2, 3).flatten(1, 2).unflatten(2, size)
    assert_equal_with_gradients(found, layer(x), [x, layer.qkv.weight, *tables])
