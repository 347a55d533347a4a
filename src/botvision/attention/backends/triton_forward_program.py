"""The Triton program of the forward pass, and what all three share; ``triton_launch.py`` says what they compute.

Keys are walked in patches of ROWS x COLUMNS of the map, not in runs of consecutive positions. What the positions add
to a patch of logits is then the sum of a (queries, ROWS) and a (queries, COLUMNS) tile: small enough to load for
every patch, and for all patches below each other the second one stays in registers. Where a patch sticks out of the
map these two small tiles are -inf, instead of every logit. Patches of 8 columns or a multiple cost nothing to spread
and to sum: the tensor cores hand each thread whole runs of 8 columns, so no logit has to change threads.

The constant FULL says that no block of queries and no patch sticks out: the masks then vanish from the program, and
their registers with them. Head widths are padded with zeros to QK_BLOCK and V_BLOCK, powers of two. Vectors come as a
pointer with the strides of batch, head and position.

Softmax in base 2: a logit carries a factor log2(e) before exp2, which is what the hardware has.
"""

# Triton takes an annotation for a type of its own; only its constants can have one.
# ruff: noqa: ANN001, ANN201
# mypy: allow-untyped-defs

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
LOG_2 = tl.constexpr(0.6931471805599453)
VARYING = ("heads", "queries", "height", "width")
"""Arguments that change with the size of the map: by default Triton would compile anew where one of them becomes 1 or a
multiple of 16, or no longer is. Biases are contiguous, and where the width of a head is a multiple of 16, so are the
strides of the vectors, whatever the size."""


@triton.jit(do_not_specialize=VARYING)
def forward_program(
    inputs,
    out,
    log_sum,
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
    """Softmax over all keys for one block of queries of one head, patch by patch, with a running maximum and sum."""
    head, first, query, is_query = query_block(queries, QUERIES, FULL)
    q, k, v, bias_height, bias_width = inputs
    q, k, v = of_head(q, head, heads), of_head(k, head, heads), of_head(v, head, heads)
    bias_height += row_offset(head, queries, first, height)
    bias_width += row_offset(head, queries, first, width)

    q_tile = load_vectors(q, first, query, is_query, QK_WIDTH, QK_BLOCK)
    largest = tl.full([QUERIES], float("-inf"), tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    result = tl.zeros([QUERIES, V_BLOCK], tl.float32)
    for left in range(0, width, COLUMNS):
        across = load_biases(bias_width, query, is_query, left, width, COLUMNS, FULL)
        across *= LOG2_E
        for top in range(0, height, ROWS):
            down = load_biases(bias_height, query, is_query, top, height, ROWS, FULL)
            corner, key, is_key = patch_keys(top, left, height, width, ROWS, COLUMNS, FULL)
            k_tile = load_vectors(k, corner, key, is_key, QK_WIDTH, QK_BLOCK)
            v_tile = load_vectors(v, corner, key, is_key, V_WIDTH, V_BLOCK)

            logits = tl.dot(q_tile, tl.trans(k_tile), input_precision="ieee") * (scale * LOG2_E)
            logits += spread(down * LOG2_E, across)
            highest = tl.maximum(largest, tl.max(logits, 1))
            # Where all logits so far are -inf, -inf minus -inf would be NaN. The maximum ignores a NaN among the
            # logits, but the exponential of that NaN reaches the sum and the result.
            shift = tl.where(highest == float("-inf"), 0.0, highest)
            weights = tl.exp2(logits - shift[:, None])
            shrink = tl.exp2(largest - shift)
            total = total * shrink + tl.sum(weights, 1)
            result = tl.dot(weights.to(v_tile.dtype), v_tile, result * shrink[:, None], input_precision="ieee")
            largest = highest

    store_vectors(of_head(out, head, heads), first, query, is_query, result / total[:, None], V_WIDTH, V_BLOCK)
    log_sum += row_offset(head, queries, first, 1)
    tl.store(log_sum + query, (largest + tl.log2(total)) * LOG_2, mask=is_query)


@triton.jit
def query_block(queries, QUERIES: tl.constexpr, FULL: tl.constexpr):
    """What this program works on: a head (one of all B * heads), the block's first query, its queries counted from
    there, and which of them exist."""
    blocks = tl.cdiv(queries, QUERIES)
    first = tl.program_id(0) % blocks * QUERIES
    query = tl.arange(0, QUERIES)
    return tl.program_id(0) // blocks, first, query, (first + query < queries) | FULL


@triton.jit
def patch_keys(top, left, height, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr, FULL: tl.constexpr):
    """The first key of a patch, its keys counted from there, and which of them are on the map."""
    y = tl.arange(0, ROWS * COLUMNS) // COLUMNS
    x = tl.arange(0, ROWS * COLUMNS) % COLUMNS
    return top * width + left, y * width + x, (top + y < height) & (left + x < width) | FULL


@triton.jit
def of_head(vectors, head, heads):
    """Where the vectors of a head begin, and the stride of its positions; in 64 bits, as large batches need it."""
    pointer, strides = vectors
    batch = tl.cast(head // heads, tl.int64) * strides[0]
    return pointer + batch + tl.cast(head % heads, tl.int64) * strides[1], strides[2]


@triton.jit
def row_offset(head, queries, query, length):
    """Elements from the first to this query's row of a head, in a contiguous (B, heads, queries, length)."""
    return (tl.cast(head, tl.int64) * queries + query) * length


@triton.jit
def places(vectors, start, position, BLOCK: tl.constexpr):
    """Pointers to the (positions, BLOCK) vectors of a head at ``start + position``."""
    pointer, stride = vectors
    pointer += tl.cast(start, tl.int64) * stride
    return pointer + position[:, None] * stride + tl.arange(0, BLOCK)[None, :]


@triton.jit
def load_vectors(vectors, start, position, is_there, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """The vectors at :func:`places`, 0 past their width and for positions that are not there."""
    is_number = (tl.arange(0, BLOCK) < WIDTH) | (WIDTH == BLOCK)
    return tl.load(places(vectors, start, position, BLOCK), is_there[:, None] & is_number[None, :], other=0.0)


@triton.jit
def store_vectors(vectors, start, position, is_there, tile, width, BLOCK: tl.constexpr):
    """Write what ``load_vectors`` reads, in the dtype of the memory."""
    mask = is_there[:, None] & (tl.arange(0, BLOCK) < width)[None, :]
    tl.store(places(vectors, start, position, BLOCK), tile.to(vectors[0].dtype.element_ty), mask)


@triton.jit
def load_biases(pointer, query, is_query, start, length, COUNT: tl.constexpr, FULL: tl.constexpr):
    """What rows (or columns) ``start``.. of the map add to each query's logits, (queries, COUNT) in float32.

    Lines past the map's end take their keys out of the softmax with -inf; in a FULL patch there are none.
    """
    line = start + tl.arange(0, COUNT)
    is_there = is_query[:, None] & ((line < length) | FULL)[None, :]
    place = pointer + query[:, None] * length + line[None, :]
    return tl.load(place, mask=is_there, other=float("-inf")).to(tl.float32)


@triton.jit
def spread(down, across):
    """(queries, ROWS) of a patch's rows plus (queries, COLUMNS) of its columns: (queries, ROWS * COLUMNS)."""
    patch = down[:, :, None] + across[:, None, :]
    return tl.reshape(patch, (down.shape[0], down.shape[1] * across.shape[1]))
