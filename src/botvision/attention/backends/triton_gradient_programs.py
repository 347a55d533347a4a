"""The two Triton programs of the backward pass; ``triton_forward_program.py`` says how all three work.

Neither adds in memory what another one wrote: every sum has one program, and the same order in every run. The weights
of the softmax are computed again from the log-sum-exp, so that nothing of size N x N has to be kept.
"""

# Triton takes an annotation for a type of its own; only its constants can have one.
# ruff: noqa: ANN001, ANN201
# mypy: allow-untyped-defs

import triton
import triton.language as tl

from botvision.attention.backends.triton_forward_program import (
    LOG2_E,
    VARYING,
    load_biases,
    load_vectors,
    of_head,
    patch_keys,
    query_block,
    row_offset,
    spread,
    store_vectors,
)


@triton.jit(do_not_specialize=VARYING)
def query_gradient_program(
    inputs,
    grad_out,
    out,
    log_sum,
    delta,
    grads,
    heads,
    queries,
    height,
    width,
    scale,
    QK_WIDTH: tl.constexpr,
    V_WIDTH: tl.constexpr,
    QK_BLOCK: tl.constexpr,
    V_BLOCK: tl.constexpr,
    QUERIES: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    FULL: tl.constexpr,
):
    """Gradients of one block of queries and of their position terms, and delta = out . grad_out for the other program.

    With ds the gradient of a logit: grad_q = scale * ds k; grad_bias_height and grad_bias_width are sums of ds over the
    keys of a row and of a column.
    """
    head, first, query, is_query = query_block(queries, QUERIES, FULL)
    q, k, v, bias_height, bias_width = inputs
    grad_q, grad_bias_height, grad_bias_width = grads
    q, k, v = of_head(q, head, heads), of_head(k, head, heads), of_head(v, head, heads)
    bias_height += row_offset(head, queries, first, height)
    bias_width += row_offset(head, queries, first, width)
    grad_bias_height += row_offset(head, queries, first, height)
    grad_bias_width += row_offset(head, queries, first, width)
    log_sum += row_offset(head, queries, first, 1)
    delta += row_offset(head, queries, first, 1)

    q_tile = load_vectors(q, first, query, is_query, QK_WIDTH, QK_BLOCK)
    out_tile = load_vectors(of_head(out, head, heads), first, query, is_query, V_WIDTH, V_BLOCK)
    grad_out_tile = load_vectors(of_head(grad_out, head, heads), first, query, is_query, V_WIDTH, V_BLOCK)
    total = tl.load(log_sum + query, mask=is_query, other=float("inf"))
    inner = tl.sum(out_tile.to(tl.float32) * grad_out_tile.to(tl.float32), 1)
    tl.store(delta + query, inner, mask=is_query)

    grad_q_tile = tl.zeros([QUERIES, QK_BLOCK], tl.float32)
    for left in range(0, width, COLUMNS):
        across = load_biases(bias_width, query, is_query, left, width, COLUMNS, FULL)
        across = (across - total[:, None]) * LOG2_E
        grad_across = tl.zeros([QUERIES, COLUMNS], tl.float32)
        # What the patches to the left have added to grad_bias_height is read below by other threads than wrote it.
        tl.debug_barrier()
        for top in range(0, height, ROWS):
            down = load_biases(bias_height, query, is_query, top, height, ROWS, FULL)
            corner, key, is_key = patch_keys(top, left, height, width, ROWS, COLUMNS, FULL)
            k_tile = load_vectors(k, corner, key, is_key, QK_WIDTH, QK_BLOCK)
            v_tile = load_vectors(v, corner, key, is_key, V_WIDTH, V_BLOCK)

            logits = tl.dot(q_tile, tl.trans(k_tile), input_precision="ieee") * (scale * LOG2_E)
            weights = tl.exp2(logits + spread(down * LOG2_E, across))
            grad_weights = tl.dot(grad_out_tile, tl.trans(v_tile), input_precision="ieee")
            grad_logits = weights * (grad_weights - inner[:, None])
            grad_q_tile = tl.dot(grad_logits.to(k_tile.dtype), k_tile, grad_q_tile, input_precision="ieee")

            grad_patch = tl.reshape(grad_logits, (QUERIES, ROWS, COLUMNS))
            grad_across += tl.sum(grad_patch, 1)
            row = top + tl.arange(0, ROWS)
            place = grad_bias_height + query[:, None] * height + row[None, :]
            is_row = is_query[:, None] & ((row < height) | FULL)[None, :]
            before = tl.load(place, mask=is_row & (left > 0), other=0.0)
            tl.store(place, before + tl.sum(grad_patch, 2), mask=is_row)
        store_vectors((grad_bias_width + left, width), 0, query, is_query, grad_across, width - left, COLUMNS)
    store_vectors(of_head(grad_q, head, heads), first, query, is_query, grad_q_tile * scale, QK_WIDTH, QK_BLOCK)


@triton.jit(do_not_specialize=VARYING)
def key_gradient_program(
    inputs,
    grad_out,
    log_sum,
    delta,
    grads,
    heads,
    queries,
    height,
    width,
    scale,
    QK_WIDTH: tl.constexpr,
    V_WIDTH: tl.constexpr,
    QK_BLOCK: tl.constexpr,
    V_BLOCK: tl.constexpr,
    QUERIES: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    FULL: tl.constexpr,
):
    """Gradients of the keys and values of one patch: grad_v = weights^T grad_out, grad_k = scale * ds^T q.

    Everything is laid out with the keys first: so the weights and ds come out of one product as the next one takes
    them. Queries past the end get the weight 0, as their log-sum-exp is read as +inf.
    """
    patches_across = tl.cdiv(width, COLUMNS)
    patches = tl.cdiv(height, ROWS) * patches_across
    head = tl.program_id(0) // patches
    patch = tl.program_id(0) % patches
    top = patch // patches_across * ROWS
    left = patch % patches_across * COLUMNS
    corner, key, is_key = patch_keys(top, left, height, width, ROWS, COLUMNS, FULL)
    query = tl.arange(0, QUERIES)

    q, k, v, bias_height, bias_width = inputs
    grad_k, grad_v = grads
    q, k, v = of_head(q, head, heads), of_head(k, head, heads), of_head(v, head, heads)
    grad_out = of_head(grad_out, head, heads)
    bias_height += row_offset(head, queries, 0, height)
    bias_width += row_offset(head, queries, 0, width)
    log_sum += row_offset(head, queries, 0, 1)
    delta += row_offset(head, queries, 0, 1)

    k_tile = load_vectors(k, corner, key, is_key, QK_WIDTH, QK_BLOCK)
    v_tile = load_vectors(v, corner, key, is_key, V_WIDTH, V_BLOCK)
    grad_k_tile = tl.zeros([ROWS * COLUMNS, QK_BLOCK], tl.float32)
    grad_v_tile = tl.zeros([ROWS * COLUMNS, V_BLOCK], tl.float32)
    # With a path around the loop, the assembler may see accumulators that were never in a tensor core, and then has the
    # products of the loop wait for each other.
    tl.assume(queries > 0)
    for first in range(0, queries, QUERIES):
        is_query = (first + query < queries) | FULL
        q_tile = load_vectors(q, first, query, is_query, QK_WIDTH, QK_BLOCK)
        grad_out_tile = load_vectors(grad_out, first, query, is_query, V_WIDTH, V_BLOCK)
        logits = tl.dot(k_tile, tl.trans(q_tile), input_precision="ieee") * scale

        # Loaded only here, and delta below, as registers are short while a product runs.
        down_start = bias_height + row_offset(0, queries, first, height)
        across_start = bias_width + row_offset(0, queries, first, width)
        down = load_biases(down_start, query, is_query, top, height, ROWS, FULL)
        across = load_biases(across_start, query, is_query, left, width, COLUMNS, FULL)
        total = tl.load(log_sum + first + query, mask=is_query, other=float("inf"))
        logits += spread_keys_first(tl.trans(down) - total[None, :], tl.trans(across))
        weights = tl.exp2(logits * LOG2_E)
        grad_v_tile = tl.dot(weights.to(v_tile.dtype), grad_out_tile, grad_v_tile, input_precision="ieee")

        grad_weights = tl.dot(v_tile, tl.trans(grad_out_tile), input_precision="ieee")
        inner = tl.load(delta + first + query, mask=is_query, other=0.0)
        grad_logits = weights * (grad_weights - inner[None, :])
        grad_k_tile = tl.dot(grad_logits.to(q_tile.dtype), q_tile, grad_k_tile, input_precision="ieee")
    store_vectors(of_head(grad_k, head, heads), corner, key, is_key, grad_k_tile * scale, QK_WIDTH, QK_BLOCK)
    store_vectors(of_head(grad_v, head, heads), corner, key, is_key, grad_v_tile, V_WIDTH, V_BLOCK)


@triton.jit
def spread_keys_first(down, across):
    """:func:`spread` for (ROWS, queries) and (COLUMNS, queries): (ROWS * COLUMNS, queries)."""
    patch = down[:, None, :] + across[None, :, :]
    return tl.reshape(patch, (down.shape[0] * across.shape[0], down.shape[1]))
