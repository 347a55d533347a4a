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
    for start in range(0, height + key_height - 1, DISTANCES):
        table_tile = load_distances(rel_height, start, height + key_height - 1, WIDTH, BLOCK, DISTANCES)
        products = tl.dot(q_tile, tl.trans(table_tile), input_precision="ieee") * scale
        place, is_key = at_distances(bias_height, query, is_query, start, y, height, key_height, DISTANCES)
        tl.store(place, products, mask=is_key)
    for start in range(0, width + key_width - 1, DISTANCES):
        table_tile = load_distances(rel_width, start, width + key_width - 1, WIDTH, BLOCK, DISTANCES)
        products = tl.dot(q_tile, tl.trans(table_tile), input_precision="ieee") * scale
        place, is_key = at_distances(bias_width, query, is_query, start, x, width, key_width, DISTANCES)
        tl.store(place, products, mask=is_key)


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
    for start in range(0, height + key_height - 1, DISTANCES):
        table_tile = load_distances(rel_height, start, height + key_height - 1, WIDTH, BLOCK, DISTANCES)
        place, is_key = at_distances(grad_height, query, is_query, start, y, height, key_height, DISTANCES)
        upstream = tl.load(place, mask=is_key, other=0.0).to(table_tile.dtype)
        result = tl.dot(upstream, table_tile, result, input_precision="ieee")
    for start in range(0, width + key_width - 1, DISTANCES):
        table_tile = load_distances(rel_width, start, width + key_width - 1, WIDTH, BLOCK, DISTANCES)
        place, is_key = at_distances(grad_width, query, is_query, start, x, width, key_width, DISTANCES)
        upstream = tl.load(place, mask=is_key, other=0.0).to(table_tile.dtype)
        result = tl.dot(upstream, table_tile, result, input_precision="ieee")
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
        upstream = tl.load(place, mask=is_key, other=0.0).to(q_tile.dtype)
        of_height = tl.dot(tl.trans(upstream), q_tile, of_height, input_precision="ieee")
        rows = grad_width + row_offset(head, queries, first, key_width)
        place, is_key = at_distances(rows, query, is_query, start, x, width, key_width, DISTANCES)
        upstream = tl.load(place, mask=is_key, other=0.0).to(q_tile.dtype)
        of_width = tl.dot(tl.trans(upstream), q_tile, of_width, input_precision="ieee")
    store_share(share_height, of_height * scale, start, height + key_height - 1, WIDTH, BLOCK, DISTANCES)
    store_share(share_width, of_width * scale, start, width + key_width - 1, WIDTH, BLOCK, DISTANCES)


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
