"""The Triton programs of relative positions: biases from tables of vectors, and the gradients of queries and tables.

``triton_positions.py`` says what they compute. A table has one vector for each distance from a query to a key. A block
of queries is multiplied by a run of the table's vectors; the product of a query and the vector of a distance belongs to
the key at that distance, if there is one. So every bias is written to its place, and read from there by the backward
pass: nothing is spread over pairs of positions or padded in the card's memory.
"""

# Triton takes an annotation for a type of its own; only its constants can have one.
# ruff: noqa: ANN001, ANN201
# mypy: allow-untyped-defs

import triton
import triton.language as tl

from botvision.attention.backends.triton_forward_program import (
    load_vectors,
    of_head,
    query_block,
    row_offset,
    store_vectors,
)

VARYING = ("heads", "queries", "height", "width", "key_height", "key_width")
"""Arguments that change with the size of the map, for which nothing is to be compiled anew."""


@triton.jit(do_not_specialize=VARYING)
def bias_program(
    q,
    tables,
    biases,
    heads,
    queries,
    height,
    width,
    key_height,
    key_width,
    scale,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    QUERIES: tl.constexpr,
    DISTANCES: tl.constexpr,
):
    """Both biases of one block of queries of one head."""
    head, first, query, is_query = query_block(queries, QUERIES, False)
    q_tile = load_vectors(of_head(q, head, heads), first, query, is_query, WIDTH, BLOCK)
    rel_height, rel_width = tables
    bias_height, bias_width = biases
    bias_height += row_offset(head, queries, first, key_height)
    bias_width += row_offset(head, queries, first, key_width)

    y, x = (first + query) // width, (first + query) % width
    store_biases(
        q_tile, rel_height, bias_height, query, is_query, y, height, key_height, scale, WIDTH, BLOCK, DISTANCES
    )
    store_biases(q_tile, rel_width, bias_width, query, is_query, x, width, key_width, scale, WIDTH, BLOCK, DISTANCES)


@triton.jit(do_not_specialize=VARYING)
def bias_query_gradient_program(
    tables,
    grad_biases,
    grad_q,
    heads,
    queries,
    height,
    width,
    key_height,
    key_width,
    scale,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    QUERIES: tl.constexpr,
    DISTANCES: tl.constexpr,
):
    """Gradients of one block of queries: those of their biases times the vectors of the distances."""
    head, first, query, is_query = query_block(queries, QUERIES, False)
    rel_height, rel_width = tables
    grad_height, grad_width = grad_biases
    grad_height += row_offset(head, queries, first, key_height)
    grad_width += row_offset(head, queries, first, key_width)

    y, x = (first + query) // width, (first + query) % width
    result = tl.zeros([QUERIES, BLOCK], tl.float32)
    result = add_gradient(
        result, rel_height, grad_height, query, is_query, y, height, key_height, WIDTH, BLOCK, DISTANCES
    )
    result = add_gradient(result, rel_width, grad_width, query, is_query, x, width, key_width, WIDTH, BLOCK, DISTANCES)
    store_vectors(of_head(grad_q, head, heads), first, query, is_query, result * scale, WIDTH, BLOCK)


@triton.jit(do_not_specialize=(*VARYING, "blocks"))
def table_gradient_program(
    q,
    grad_biases,
    shares,
    blocks,
    heads,
    queries,
    height,
    width,
    key_height,
    key_width,
    scale,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    QUERIES: tl.constexpr,
    DISTANCES: tl.constexpr,
):
    """The share of every :func:`tl.num_programs`-th block of queries in the gradients of a run of both tables.

    Axis 0 of the grid are the shares, axis 1 the runs of distances; ``blocks`` are those of all heads.
    """
    start = tl.program_id(1) * DISTANCES
    share_height, share_width = shares
    grad_height, grad_width = grad_biases
    of_height = tl.zeros([DISTANCES, BLOCK], tl.float32)
    of_width = tl.zeros([DISTANCES, BLOCK], tl.float32)
    query = tl.arange(0, QUERIES)
    blocks_of_head = tl.cdiv(queries, QUERIES)
    for block in range(tl.program_id(0), blocks, tl.num_programs(0)):
        head = block // blocks_of_head
        first = block % blocks_of_head * QUERIES
        is_query = first + query < queries
        y, x = (first + query) // width, (first + query) % width
        q_tile = load_vectors(of_head(q, head, heads), first, query, is_query, WIDTH, BLOCK)
        rows = grad_height + row_offset(head, queries, first, key_height)
        place, is_key = at_distances(rows, query, is_query, start, y, height, key_height, DISTANCES)
        of_height = multiply(tl.trans(tl.load(place, mask=is_key, other=0.0)), q_tile, of_height)
        rows = grad_width + row_offset(head, queries, first, key_width)
        place, is_key = at_distances(rows, query, is_query, start, x, width, key_width, DISTANCES)
        of_width = multiply(tl.trans(tl.load(place, mask=is_key, other=0.0)), q_tile, of_width)
    store_share(share_height, of_height * scale, start, height + key_height - 1, WIDTH, BLOCK, DISTANCES)
    store_share(share_width, of_width * scale, start, width + key_width - 1, WIDTH, BLOCK, DISTANCES)


@triton.jit
def store_biases(
    q_tile,
    table,
    rows,
    query,
    is_query,
    place,
    length,
    key_length,
    scale,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    DISTANCES: tl.constexpr,
):
    """Write the biases of one axis; ``rows`` as :func:`at_distances` takes it."""
    for start in range(0, length + key_length - 1, DISTANCES):
        table_tile = load_distances(table, start, length + key_length - 1, WIDTH, BLOCK, DISTANCES)
        products = tl.dot(q_tile, tl.trans(table_tile), input_precision="ieee") * scale
        target, is_key = at_distances(rows, query, is_query, start, place, length, key_length, DISTANCES)
        tl.store(target, products, mask=is_key)


@triton.jit
def add_gradient(
    total,
    table,
    rows,
    query,
    is_query,
    place,
    length,
    key_length,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    DISTANCES: tl.constexpr,
):
    """Add what the biases of one axis give to the gradients of the queries, without the scale."""
    for start in range(0, length + key_length - 1, DISTANCES):
        table_tile = load_distances(table, start, length + key_length - 1, WIDTH, BLOCK, DISTANCES)
        source, is_key = at_distances(rows, query, is_query, start, place, length, key_length, DISTANCES)
        total = multiply(tl.load(source, mask=is_key, other=0.0), table_tile, total)
    return total


@triton.jit
def multiply(upstream, vectors, total):
    """Add the product of gradients in float32 and vectors.

    The gradients may be outside the range of float16. TF32 has the range of float32 and the digits of float16, so
    vectors of float16 stay what they are in it.
    """
    if vectors.dtype == tl.float16:
        total = tl.dot(upstream, vectors.to(tl.float32), total, input_precision="tf32")
    else:
        total = tl.dot(upstream.to(vectors.dtype), vectors, total, input_precision="ieee")
    return total


@triton.jit
def load_distances(table, start, count, WIDTH: tl.constexpr, BLOCK: tl.constexpr, DISTANCES: tl.constexpr):
    """The vectors of the distances from ``start`` on, of ``count`` in all: (DISTANCES, BLOCK), 0 past the last."""
    distance = tl.arange(0, DISTANCES)
    return load_vectors(table, start, distance, start + distance < count, WIDTH, BLOCK)


@triton.jit
def at_distances(rows, query, is_query, start, place, length, key_length, DISTANCES: tl.constexpr):
    """Where the biases of queries lie for the keys at the distances from ``start`` on, and which of them exist.

    ``rows`` points to the bias of the first query and the first key. ``place`` is that of the queries on their axis;
    table row i holds the distance i - (length - 1). Past the table's end no key is left.
    """
    key = place[:, None] + (start + tl.arange(0, DISTANCES) - (length - 1))[None, :]
    return rows + query[:, None] * key_length + key, is_query[:, None] & (key >= 0) & (key < key_length)


@triton.jit
def store_share(shares, tile, start, count, WIDTH: tl.constexpr, BLOCK: tl.constexpr, DISTANCES: tl.constexpr):
    """Write this program's rows of a contiguous (shares, count, WIDTH)."""
    distance = tl.arange(0, DISTANCES)
    shares += tl.cast(tl.program_id(0), tl.int64) * count * WIDTH
    store_vectors((shares, WIDTH), start, distance, start + distance < count, tile, WIDTH, BLOCK)
