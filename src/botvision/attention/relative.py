"""Attention over a map in the kinds of the paper's Table 4, each made of the primitive."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from botvision.attention import choose
from botvision.attention.backends.triton_launch import with_contiguous_vectors
from botvision.attention.biased import attend
from botvision.attention.checks import (
    check_map,
    check_tables,
    check_tensors,
    check_valid_size,
    factors,
    scale_or_default,
)
from botvision.attention.pooling import halve_answers
from botvision.attention.position_op import fused_biases
from botvision.attention.positions import has_autocast, padding_biases, relative_biases
from botvision.attention.tables import adapt_relative_table, adapt_table
from botvision.errors import UserError
from botvision.symbolic import is_exporting


def relative_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rel_height: Tensor,
    rel_width: Tensor,
    *,
    size: tuple[int, int],
    scale: float | None = None,
    key_size: tuple[int, int] | None = None,
    valid_size: Tensor | None = None,
    pool: bool = False,
) -> Tensor:
    """Global attention over an H x W map with split, learned, relative positions (paper, Figure 4).

    ``softmax(s q k^T + s q r^T) v`` with ``r[i, j] = rel_height[y_j - y_i + H - 1] + rel_width[x_j - x_i + W - 1]``.
    It is exact at every size; large maps are computed without the (H*W, H*W) matrix, forward and backward. Takes part
    in autograd (second derivatives have the whole matrix), autocast, the reverse mode of
    ``torch.func``, ``torch.compile`` and ``torch.export``. The same input gives the same bits.

    Args:
        q: (B, heads, H*W, d), positions in row-major order, any strides; float64, float32, float16 or bfloat16.
        k: ``(B, heads, H'*W', d)``, likewise.
        v: ``(B, heads, H'*W', e)``, likewise.
        rel_height: (2L - 1, d), one vector for each vertical distance from a query to a key, -(L-1) .. L-1. A table
            for a longer map than this one's gives its central rows, one for a shorter map is stretched
            (:func:`~botvision.attention.tables.adapt_relative_table`).
        rel_width: (2L - 1, d), likewise for horizontal distances.
        size: (H, W), the map of the queries.
        scale: multiplies q before both terms; d ** -0.5 by default.
        key_size: (H', W'), where the keys are on another map than the queries; both maps have the same first row and
            first column.
        valid_size: (B, 2), for each image the rows and columns, at least 1, of its map of keys that are no padding,
            from the first on; no query attends to the padding. The whole map by default.
        pool: return the means of 2x2 cells of queries, as :class:`~botvision.layers.HalvingPool` makes them of the
            result. On a processor it costs less than the result alone: the product with v is of the means then.

    Returns:
        (B, heads, H*W, e); with ``pool`` (B, heads, ceil(H / 2) * ceil(W / 2), e).

    Raises:
        UserError: (a ValueError) shapes, dtypes or devices that do not belong together; the message names the
            argument, what it has and what it should have.
    """
    q, k, v, *tables = factors(q=q, k=k, v=v, rel_height=rel_height, rel_width=rel_width)
    return attend_by_tables(q, k, v, tables, size, scale, key_size, valid_size, pool=pool)


def position_attention(
    q: Tensor,
    v: Tensor,
    rel_height: Tensor,
    rel_width: Tensor,
    *,
    size: tuple[int, int],
    scale: float | None = None,
    key_size: tuple[int, int] | None = None,
    valid_size: Tensor | None = None,
    pool: bool = False,
) -> Tensor:
    """:func:`relative_attention` without its content term, and so without k: ``softmax(s q r^T) v`` (Table 4, "qr")."""
    q, v, *tables = factors(q=q, v=v, rel_height=rel_height, rel_width=rel_width)
    return attend_by_tables(q, None, v, tables, size, scale, key_size, valid_size, pool=pool)


def content_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float | None = None,
    key_size: tuple[int, int] | None = None,
    valid_size: Tensor | None = None,
    size: tuple[int, int] | None = None,
    pool: bool = False,
) -> Tensor:
    """:func:`relative_attention` without positions: ``softmax(s q k^T) v`` (Table 4, "qk").

    Only ``valid_size`` needs the map of the keys, ``key_size``, and only ``pool`` that of the queries, ``size``. On a
    GPU it is PyTorch's own attention, unless keys are masked, and has no second derivatives then.
    """
    q, k, v = factors(q=q, k=k, v=v)
    check_tensors(q, k, v)
    pooled = pooled_map(size, pool, q)
    scale = scale_or_default(scale, q)
    if key_size is not None:
        key_size = check_map("key_size", key_size, "k", k)
    if valid_size is not None:
        if key_size is None:
            raise UserError("valid_size needs key_size=(H', W'), the map of the keys")
        biases = padding(q, valid_size, key_size)
    elif q.device.type != "cpu" and choose.forced is None and choose.choose_backend(q, v, (0, 0)) != "blocks":
        # Its fast kernels refuse vectors that are not contiguous, and the slow one has the whole matrix.
        q, k, v = map(with_contiguous_vectors, (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v, scale=scale)
        return out if pooled is None else halve_answers(out, pooled)
    else:
        height, width = key_size or (k.shape[2], 1)
        nothing = q.new_zeros(1, 1, 1, 1)
        biases = nothing.expand(-1, -1, -1, height), nothing.expand(-1, -1, -1, width)
    bias_height, bias_width = (bias.expand(*q.shape[:3], -1) for bias in biases)
    return attend(q, k, v, bias_height, bias_width, scale, pooled)


def absolute_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    abs_height: Tensor,
    abs_width: Tensor,
    *,
    size: tuple[int, int],
    scale: float | None = None,
    valid_size: Tensor | None = None,
    pool: bool = False,
) -> Tensor:
    """``softmax(s q k^T + s q r^T) v`` with r of the key's own place (paper, Table 4, "qk + qr absolute").

    ``r[j] = abs_height[y_j] + abs_width[x_j]``, so it is one more term of the key. Arguments, result and errors are
    those of :func:`relative_attention`, but for N queries of any kind and:

    Args:
        abs_height: (L, d), one vector for each row, adapted to H rows as
            :func:`~botvision.attention.tables.adapt_table` does.
        abs_width: (L, d), likewise for columns.
        size: (H, W), the map of the keys; with ``pool`` that of the queries too.
    """
    q, k, v, *tables = factors(q=q, k=k, v=v, abs_height=abs_height, abs_width=abs_width)
    check_tensors(q, k, v)
    size = check_map("size", size, "k", k)
    check_tables(q, "abs", tables)
    rows, columns = (adapt_table(table, length) for table, length in zip(tables, size, strict=True))
    k = k + (rows[:, None] + columns[None, :]).flatten(0, 1)
    return content_attention(q, k, v, scale=scale, key_size=size, valid_size=valid_size, size=size, pool=pool)


def attend_by_tables(
    q: Tensor,
    k: Tensor | None,
    v: Tensor,
    tables: Sequence[Tensor],
    size: tuple[int, int],
    scale: float | None,
    key_size: tuple[int, int] | None,
    valid_size: Tensor | None,
    *,
    pool: bool,
) -> Tensor:
    """Check, fit the tables to the maps, make the biases, attend; without a content term where there are no keys."""
    check_tensors(q, k, v)
    size = check_map("size", size, "q", q)
    given = "v" if k is None else "k"
    if key_size is None:
        check_map("size", size, given, v, "; give key_size=(H', W') if the keys are on another map than the queries")
        key_lengths: Sequence[int | None] = (None, None)
    else:
        key_lengths = key_size = check_map("key_size", key_size, given, v)
    check_tables(q, "rel", tables)
    height, width = (adapt_relative_table(*fit) for fit in zip(tables, size, key_lengths, strict=True))
    scale = scale_or_default(scale, q)
    # Without a content term q may be wider here than the programs of the biases take, and not where it attends.
    if choose.triton_serves(q, q) and choose.choose_backend(q, v, key_size or size) == "triton":
        q = with_contiguous_vectors(q)  # once for attention, too
        biases = fused_biases(q, height, width, size, scale, "triton")
    elif is_compiled_under_autocast(q):
        biases = fused_biases(q, height, width, size, scale, "pytorch")
    else:
        q = q.contiguous()  # once for three products
        biases = relative_biases(q, height, width, size, key_size or size, scale)
    if valid_size is not None:
        masks = padding(q, valid_size, key_size or size)
        biases = (biases[0] + masks[0], biases[1] + masks[1])
    if k is None:
        q, k = q.new_zeros(*q.shape[:3], 1), v.new_zeros(*v.shape[:3], 1)
    return attend(q, k, v, *biases, scale, size if pool else None)


def is_compiled_under_autocast(q: Tensor) -> bool:
    """Whether ``torch.compile``, and no exporter, traces this under autocast."""
    is_compiled = torch.compiler.is_compiling() and not is_exporting()
    return is_compiled and has_autocast(q) and torch.is_autocast_enabled(q.device.type)


def pooled_map(size: tuple[int, int] | None, pool: bool, q: Tensor) -> tuple[int, int] | None:
    """The checked map of the queries where their answers are pooled.

    Raises:
        UserError: it is not given, or of another number of queries.
    """
    if not pool:
        return None
    if size is None:
        raise UserError("pool needs size=(H, W), the map of the queries")
    return check_map("size", size, "q", q)


def padding(q: Tensor, valid_size: Tensor, key_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """:func:`~botvision.attention.positions.padding_biases` for queries (B, heads, N, d), checked."""
    check_valid_size(valid_size, q)
    dtype = torch.promote_types(q.dtype, torch.float32)
    return padding_biases(valid_size, key_size, queries=q.shape[2], dtype=dtype)
