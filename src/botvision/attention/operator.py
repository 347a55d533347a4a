"""``relative_attention``: the public operator, and the one place that chooses how it is computed."""

from typing import Any

from torch import SymInt, Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true

from botvision.attention.definition import definition_attention
from botvision.attention.folded import folded_attention, folded_position_attention
from botvision.attention.tables import adapt_relative_table
from botvision.errors import UserError

# Below this many positions the matrix of logits stays in cache, and building it costs less than the folded form's
# wider products. Forward + backward, float32, 4 heads of 128 on 2 CPU cores: the two meet between 24x24 and 32x32.
FOLD_FROM_POSITIONS = 32 * 32


def relative_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rel_height: Tensor,
    rel_width: Tensor,
    *,
    size: tuple[int, int],
    scale: float | None = None,
) -> Tensor:
    """Global self-attention over an H x W map with split, learned, relative positions (paper, Figure 4).

    ``softmax(s q k^T + s q r^T) v`` with ``r[i, j] = rel_height[y_j - y_i + H - 1] + rel_width[x_j - x_i + W - 1]``.
    It is exact at every size; large maps are computed without the (H*W, H*W) matrix.

    Args:
        q, k: (B, heads, H*W, d), positions in row-major order, any strides; a contiguous last axis is fastest.
        v: (B, heads, H*W, e), likewise.
        rel_height: (2H' - 1, d), one vector for each vertical distance. A table for H' > H gives its central rows,
            one for H' < H is stretched (:func:`~botvision.attention.tables.adapt_relative_table`).
        rel_width: (2W' - 1, d), likewise for horizontal distances.
        size: (H, W) of the map.
        scale: multiplies q before both terms; d ** -0.5 by default.

    Returns:
        (B, heads, H*W, e).

    Raises:
        UserError: shapes, dtypes or devices that do not belong together; the message names the argument.
    """
    check_arguments(q, k, v, rel_height, rel_width, size)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    rel_height = adapt_relative_table(rel_height, size[0])
    rel_width = adapt_relative_table(rel_width, size[1])
    # A size that is only known when a compiled or exported program runs is no reason to split that program in two:
    # the folded form serves every size.
    is_small = statically_known_true(size[0] * size[1] < FOLD_FROM_POSITIONS)
    compute = definition_attention if is_small else folded_attention
    return compute(q, k, v, rel_height, rel_width, size, scale)


def position_attention(
    q: Tensor,
    v: Tensor,
    rel_height: Tensor,
    rel_width: Tensor,
    *,
    size: tuple[int, int],
    scale: float | None = None,
) -> Tensor:
    """:func:`relative_attention` without its content term: ``softmax(s q r^T) v`` (paper, Table 4, "qr").

    Arguments, shapes, the returned tensor and errors are those of :func:`relative_attention`.
    """
    check_arguments(q, q, v, rel_height, rel_width, size)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    rel_height = adapt_relative_table(rel_height, size[0])
    rel_width = adapt_relative_table(rel_width, size[1])
    return folded_position_attention(q, v, rel_height, rel_width, size, scale)


def check_arguments(
    q: Tensor, k: Tensor, v: Tensor, rel_height: Tensor, rel_width: Tensor, size: tuple[int, int]
) -> None:
    """Raise a UserError that names the first argument that does not fit, what it has and what it should have."""
    if q.ndim != 4:
        raise UserError(f"q must be (B, heads, H*W, d), got shape {tuple(q.shape)}")
    positions, head_width = q.shape[-2:]
    if not is_map_size(size):
        raise UserError(f"size must be (H, W), two whole numbers of at least 1, got {size!r}")
    if size[0] * size[1] != positions:
        raise UserError(f"size {tuple(size)} is {size[0] * size[1]} positions, but q has {positions}")
    if k.shape != q.shape:
        raise UserError(f"k has shape {tuple(k.shape)}, it should be q's {tuple(q.shape)}")
    if v.shape[:-1] != q.shape[:-1]:
        raise UserError(f"v has shape {tuple(v.shape)}, all but the last number should be q's {tuple(q.shape)}")
    for name, table in {"rel_height": rel_height, "rel_width": rel_width}.items():
        if table.ndim != 2 or table.shape[1] != head_width or table.shape[0] % 2 == 0:
            raise UserError(
                f"{name} has shape {tuple(table.shape)}, it should be (2L - 1, {head_width}) for a map of length L"
            )
    for name, tensor in {"k": k, "v": v, "rel_height": rel_height, "rel_width": rel_width}.items():
        if tensor.dtype != q.dtype or tensor.device != q.device:
            raise UserError(f"{name} is {tensor.dtype} on {tensor.device}, but q is {q.dtype} on {q.device}")


def is_map_size(size: Any) -> bool:  # noqa: ANN401 (whatever a user gave)
    """Whether ``size`` is (H, W): two whole numbers of at least 1, of which an exported program may not know yet."""
    return (
        isinstance(size, tuple | list)
        and len(size) == 2
        and all(isinstance(side, int | SymInt) and not statically_known_true(side < 1) for side in size)
    )
