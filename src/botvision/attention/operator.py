"""The public operator in its kinds (paper, Table 4), and the one place that chooses how it is computed."""

import logging
from collections.abc import Callable
from numbers import Real
from operator import index
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import SymFloat, SymInt, Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true

from botvision.attention.definition import definition_attention
from botvision.attention.folded import folded_attention, folded_width
from botvision.attention.kernel import kernel_serves
from botvision.attention.operation import Attention
from botvision.attention.tables import adapt_relative_table, adapt_table
from botvision.errors import UserError

logger = logging.getLogger("botvision")

MaybeTensor = TypeVar("MaybeTensor", Tensor, Tensor | None)

SMALL = 20 * 20
"""Positions of a map below which a processor computes the definition. Forward + backward, float32, heads of 128, on one
core: blocks need 0.9 of its time at 16x16 and 20x20 and 0.6 at 24x24, on two cores 1.8 at 14x14 and 0.6 at 32x32."""
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
STOCK_WIDTH = 256
"""Head width up to which the fast stock kernels of a GPU go."""


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
) -> Tensor:
    """Global attention over an H x W map with split, learned, relative positions (paper, Figure 4).

    ``softmax(s q k^T + s q r^T) v`` with ``r[i, j] = rel_height[y_j - y_i + H - 1] + rel_width[x_j - x_i + W - 1]``.
    It is exact at every size; large maps are computed without the (H*W, H*W) matrix, forward and backward. Takes part
    in autograd (derivatives from the second on go by the definition and its memory), autocast, the reverse mode of
    ``torch.func``, ``torch.compile`` and ``torch.export``. The same input gives the same bits.

    Args:
        q: (B, heads, H*W, d), positions in row-major order, any strides; float64, float32, float16 or bfloat16.
        k: (B, heads, H'*W', d), likewise.
        v: (B, heads, H'*W', e), likewise.
        rel_height: (2L - 1, d), one vector for each vertical distance from a query to a key, -(L-1) .. L-1. A table
            for a longer map than this one's gives its central rows, one for a shorter map is stretched
            (:func:`~botvision.attention.tables.adapt_relative_table`).
        rel_width: (2L - 1, d), likewise for horizontal distances.
        size: (H, W), the map of the queries.
        scale: multiplies q before both terms; d ** -0.5 by default.
        key_size: (H', W'), where the keys are on another map than the queries; both maps have the same first row and
            first column.

    Returns:
        (B, heads, H*W, e).

    Raises:
        UserError: (a ValueError) shapes, dtypes or devices that do not belong together; the message names the
            argument, what it has and what it should have.
    """
    check_given(q=q, k=k, v=v, rel_height=rel_height, rel_width=rel_width)
    return attend(q, k, v, rel_height, rel_width, size, scale, key_size)


def position_attention(
    q: Tensor,
    v: Tensor,
    rel_height: Tensor,
    rel_width: Tensor,
    *,
    size: tuple[int, int],
    scale: float | None = None,
    key_size: tuple[int, int] | None = None,
) -> Tensor:
    """:func:`relative_attention` without its content term: ``softmax(s q r^T) v`` (paper, Table 4, "qr").

    Arguments, shapes, the returned tensor and errors are those of :func:`relative_attention`.
    """
    check_given(q=q, v=v, rel_height=rel_height, rel_width=rel_width)
    return attend(q, None, v, rel_height, rel_width, size, scale, key_size)


def content_attention(q: Tensor, k: Tensor, v: Tensor, *, scale: float | None = None) -> Tensor:
    """:func:`relative_attention` without positions: ``softmax(s q k^T) v`` (paper, Table 4, "qk").

    Arguments, shapes, the returned tensor and errors are those of :func:`relative_attention`; of maps it knows nothing.
    """
    check_given(q=q, k=k, v=v)
    q, k, v = cast(q), cast(k), cast(v)
    check_tensors(q, k, v)
    return attend(q, k, v, None, None, (q.shape[2], 1), scale, (k.shape[2], 1))


def absolute_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    abs_height: Tensor,
    abs_width: Tensor,
    *,
    size: tuple[int, int],
    scale: float | None = None,
) -> Tensor:
    """``softmax(s q k^T + s q r^T) v`` with r of the key's own place (paper, Table 4, "qk + qr absolute").

    ``r[j] = abs_height[y_j] + abs_width[x_j]``, so it is one more term of the key.

    Args:
        q, k, v, scale: as :func:`relative_attention` takes them.
        abs_height: (L, d), one vector for each row, adapted to H rows as
            :func:`~botvision.attention.tables.adapt_table` does.
        abs_width: (L, d), likewise for columns.
        size: (H, W), the map of the keys.

    Returns:
        (B, heads, N, e), N queries.

    Raises:
        UserError: as :func:`relative_attention` does.
    """
    check_given(q=q, k=k, v=v, abs_height=abs_height, abs_width=abs_width)
    q, k, v, abs_height, abs_width = cast(q), cast(k), cast(v), cast(abs_height), cast(abs_width)
    check_tensors(q, k, v)
    size = check_map("size", size, "k", k.shape[-2])
    check_tables(q, {"abs_height": abs_height, "abs_width": abs_width})
    rows, columns = (adapt_table(table, length) for table, length in zip((abs_height, abs_width), size, strict=True))
    return content_attention(q, k + (rows[:, None] + columns[None, :]).flatten(0, 1), v, scale=scale)


def attend(
    q: Tensor,
    k: Tensor | None,
    v: Tensor,
    rel_height: Tensor | None,
    rel_width: Tensor | None,
    size: tuple[int, int],
    scale: float | None,
    key_size: tuple[int, int] | None,
) -> Tensor:
    """Check, cast where autocast is on, adapt the tables, choose, compute."""
    q, k, v, rel_height, rel_width = cast(q), cast(k), cast(v), cast(rel_height), cast(rel_width)
    check_tensors(q, k, v)
    size = check_map("size", size, "q", q.shape[-2])
    is_one_map = key_size is None
    key_size = size if key_size is None else map_size("key_size", key_size)
    check_keys("v" if k is None else "k", v.shape[-2], key_size, is_one_map)
    if rel_height is not None and rel_width is not None:
        check_tables(q, {"rel_height": rel_height, "rel_width": rel_width})
        key_lengths = (None, None) if is_one_map else key_size
        rel_height = adapt_relative_table(rel_height, size[0], key_lengths[0])
        rel_width = adapt_relative_table(rel_width, size[1], key_lengths[1])
    way = choose(q, k, v, rel_height, key_size)
    return way(q, k, v, rel_height, rel_width, size, as_number(scale, q), key_size)


def choose(
    q: Tensor, k: Tensor | None, v: Tensor, rel_height: Tensor | None, key_size: tuple[int, int]
) -> Callable[..., Tensor]:
    """The way that these are computed: one of four functions that take what the definition takes.

    The sizes that a compiled or exported program leaves open count as large: the operator serves every size.
    """
    if q.device.type == "cpu":
        if not statically_known_true(q.shape[-2] * v.shape[-2] < SMALL * SMALL):
            return operator_attention
        if rel_height is None:
            return stock_attention
        # In half precision the definition would round after every product; blocks compute in float32.
        return definition_attention if q.dtype in (torch.float32, torch.float64) else operator_attention
    if q.dtype == torch.float64:  # stock kernels for it have the whole matrix
        return operator_attention
    if rel_height is None:
        return stock_attention
    width = folded_width(0 if k is None else q.shape[-1], key_size, v.shape[-1])
    if (k is not None and kernel_serves(q, v)) or not statically_known_true(width <= STOCK_WIDTH):
        return operator_attention
    if not torch.compiler.is_compiling():  # which a log line would cut in two
        logger.debug("attention on %s in the folded form: the Triton kernel does not serve %s", q.device, q.dtype)
    return folded_attention


def operator_attention(
    q: Tensor,
    k: Tensor | None,
    v: Tensor,
    rel_height: Tensor | None,
    rel_width: Tensor | None,
    size: tuple[int, int],
    scale: float,
    key_size: tuple[int, int],
) -> Tensor:
    """The kernel on a GPU, blocks elsewhere: :mod:`botvision.attention.operation`."""
    return Attention.apply(q, k, v, rel_height, rel_width, size, key_size, scale)[0]


def stock_attention(
    q: Tensor, k: Tensor, v: Tensor, rel_height: None, rel_width: None, size: object, scale: float, key_size: object
) -> Tensor:
    """PyTorch's own attention, which knows neither positions nor maps."""
    return F.scaled_dot_product_attention(q, k, v, scale=scale)


def cast(tensor: MaybeTensor) -> MaybeTensor:
    """The tensor as autocast, where it is on, has matrix products take it; float64 stays."""
    if tensor is None or not torch.amp.is_autocast_available(tensor.device.type):
        return tensor
    if not torch.is_autocast_enabled(tensor.device.type) or tensor.dtype not in DTYPES[1:]:
        return tensor
    return tensor.to(torch.get_autocast_dtype(tensor.device.type))


def as_number(scale: float | None, q: Tensor) -> float:
    """The scale, or the one that follows from the width of the queries."""
    if scale is None:
        return q.shape[-1] ** -0.5
    if isinstance(scale, Tensor) or not isinstance(scale, Real | SymInt | SymFloat):
        raise UserError(f"scale should be a number, got {type(scale).__name__}; multiply q by a tensor instead")
    return scale if isinstance(scale, SymInt | SymFloat) else float(scale)


def check_given(**tensors: Any) -> None:  # noqa: ANN401 (whatever a user gave)
    """Refuse what is no tensor."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise UserError(f"{name} should be a tensor, got {type(tensor).__name__}")


def check_tensors(q: Tensor, k: Tensor | None, v: Tensor) -> None:
    """Raise a UserError that names the first of the three that does not fit, what it has and what it should have."""
    for name, tensor in {"q": q, "k": k, "v": v}.items():
        if tensor is not None and tensor.ndim != 4:
            raise UserError(f"{name} must be (B, heads, positions, width), got shape {tuple(tensor.shape)}")
    if q.dtype not in DTYPES:
        raise UserError(f"q is {q.dtype}, it should be one of {', '.join(map(str, DTYPES))}")
    for number, what in ((2, "positions"), (3, "numbers in a vector")):
        if statically_known_true(q.shape[number] == 0):
            raise UserError(f"q has shape {tuple(q.shape)}, so no {what}")
    if k is not None and k.shape[3] != q.shape[3]:
        raise UserError(f"k has shape {tuple(k.shape)}, its last number should be q's {q.shape[3]}")
    for name, tensor in {"k": k, "v": v}.items():
        if tensor is not None and tensor.shape[:2] != q.shape[:2]:
            raise UserError(f"{name} has shape {tuple(tensor.shape)}, it should begin with q's {tuple(q.shape[:2])}")
    if k is not None and k.shape[2] != v.shape[2]:
        raise UserError(f"v has shape {tuple(v.shape)}, it should have k's {k.shape[2]} positions")
    check_alike(q, {"k": k, "v": v})


def check_alike(q: Tensor, others: dict[str, Tensor | None]) -> None:
    """Refuse tensors of another dtype or device than q."""
    for name, tensor in others.items():
        if tensor is not None and (tensor.dtype != q.dtype or tensor.device != q.device):
            raise UserError(
                f"{name} is {tensor.dtype} on {tensor.device}, it should be {q.dtype} on {q.device} as q is"
            )


def check_tables(q: Tensor, tables: dict[str, Tensor]) -> None:
    """Refuse tables that are none, of another width than q, or of another dtype or device."""
    for name, table in tables.items():
        is_relative = name.startswith("rel_")
        if table.ndim != 2 or table.shape[1] != q.shape[-1] or not len(table) or (is_relative and len(table) % 2 == 0):
            rows = "2L - 1" if is_relative else "L"
            raise UserError(
                f"{name} has shape {tuple(table.shape)}, it should be ({rows}, {q.shape[-1]}) for a map of length L"
            )
    check_alike(q, dict(tables))


def check_map(name: str, size: Any, of: str, positions: int) -> tuple[int, int]:  # noqa: ANN401 (whatever a user gave)
    """(H, W) as :func:`map_size` gives it; one of another number of positions than the tensor has is refused."""
    height, width = map_size(name, size)
    if height * width != positions:
        raise UserError(f"{name} ({height}, {width}) is {height * width} positions, but {of} has {positions}")
    return height, width


def check_keys(name: str, positions: int, key_size: tuple[int, int], is_one_map: bool) -> None:
    """Refuse keys of another number of positions than their map."""
    height, width = key_size
    if height * width != positions and is_one_map:
        raise UserError(
            f"{name} has {positions} positions, but size ({height}, {width}) is {height * width}; give "
            "key_size=(H', W') if the keys are on another map than the queries"
        )
    check_map("key_size", key_size, name, positions)


def map_size(name: str, size: Any) -> tuple[Any, Any]:  # noqa: ANN401 (whatever a user gave)
    """(H, W) as two whole numbers, of which an exported program may not know yet.

    Raises:
        UserError: it is none, or has a side below 1.
    """
    try:
        height, width = (side if isinstance(side, int | SymInt) else index(side) for side in size)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name} must be (H, W), two whole numbers of at least 1, got {size!r}") from error
    if statically_known_true(height < 1) or statically_known_true(width < 1):
        raise UserError(f"{name} must be (H, W), two whole numbers of at least 1, got {size!r}")
    return height, width
