"""Checks of what users give: a message names the argument, what it has and what it should have."""

from collections.abc import Sequence
from numbers import Real
from operator import index
from typing import Any

import torch
from torch import SymFloat, SymInt, Tensor

from botvision.attention.positions import has_autocast
from botvision.attention.tables import fits_a_map
from botvision.errors import UserError
from botvision.symbolic import always_true

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def factors(**tensors: Any) -> tuple[Tensor, ...]:  # noqa: ANN401 (whatever a user gave)
    """The tensors in the dtype that autocast, where it is on, has matrix products take them in; float64 stays.

    Raises:
        UserError: one of them is not a tensor.
    """
    for name, tensor in tensors.items():
        check_is_tensor(name, tensor)
        device = tensor.device.type
        if has_autocast(tensor) and torch.is_autocast_enabled(device) and tensor.dtype in DTYPES[1:]:
            tensors[name] = tensor.to(torch.get_autocast_dtype(device))
    return tuple(tensors.values())


def check_is_tensor(name: str, tensor: Any) -> None:  # noqa: ANN401 (whatever a user gave)
    """Refuse what is not a tensor."""
    if not isinstance(tensor, Tensor):
        raise UserError(f"{name} should be a tensor, got {type(tensor).__name__}")


def check_tensors(q: Tensor, k: Tensor | None, v: Tensor) -> None:
    """Refuse q, k (where there is a content term) and v that do not belong together."""
    others = {"v": v} if k is None else {"k": k, "v": v}
    for name, tensor in {"q": q, **others}.items():
        if tensor.ndim != 4:
            raise UserError(f"{name} must be (B, heads, positions, width), got shape {tuple(tensor.shape)}")
    if q.dtype not in DTYPES:
        raise UserError(f"q is {q.dtype}, it should be one of {', '.join(map(str, DTYPES))}")
    for axis, what in ((2, "positions"), (3, "numbers in a vector")):
        if always_true(q.shape[axis] == 0):
            raise UserError(f"q has shape {tuple(q.shape)}, so no {what}")
    if k is not None and k.shape[3] != q.shape[3]:
        raise UserError(f"k has shape {tuple(k.shape)}, its last number should be q's {q.shape[3]}")
    for name, tensor in others.items():
        if tensor.shape[:2] != q.shape[:2]:
            raise UserError(f"{name} has shape {tuple(tensor.shape)}, it should begin with q's {tuple(q.shape[:2])}")
    if k is not None and k.shape[2] != v.shape[2]:
        raise UserError(f"v has shape {tuple(v.shape)}, it should have k's {k.shape[2]} positions")
    check_alike(q, others)


def check_alike(q: Tensor, others: dict[str, Tensor]) -> None:
    """Refuse tensors of another dtype or device than q."""
    for name, tensor in others.items():
        if tensor.dtype != q.dtype or tensor.device != q.device:
            raise UserError(
                f"{name} is {tensor.dtype} on {tensor.device}, it should be {q.dtype} on {q.device} as q is"
            )


def check_biases(q: Tensor, k: Tensor, bias_height: Tensor, bias_width: Tensor) -> None:
    """Refuse biases that do not fit the queries and the keys."""
    for name, bias in {"bias_height": bias_height, "bias_width": bias_width}.items():
        check_is_tensor(name, bias)
        has, wanted = tuple(bias.shape[:-1]), tuple(q.shape[:3])
        if bias.ndim != 4 or any(have not in (1, want) for have, want in zip(has[:2], wanted, strict=False)):
            raise UserError(
                f"{name} has shape {tuple(bias.shape)}, it should be (B, heads, N, side) with q's {tuple(q.shape[:2])} "
                "or 1 for B and heads"
            )
        if has[2] != wanted[2]:
            raise UserError(f"{name} has shape {tuple(bias.shape)}, it should have q's {wanted[2]} queries")
        if bias.dtype != torch.float32 or bias.device != q.device or q.dtype == torch.float64:
            check_alike(q, {name: bias})
    height, width = bias_height.shape[-1], bias_width.shape[-1]
    if height * width != k.shape[2]:
        raise UserError(
            f"bias_height and bias_width are for a map of {height} x {width} keys, {height * width} positions, but k "
            f"has {k.shape[2]}"
        )


def check_valid_size(valid_size: Tensor, q: Tensor) -> None:
    """Refuse a tensor of other than two numbers for each image. The numbers are not read: a GPU would have to wait."""
    check_is_tensor("valid_size", valid_size)
    if valid_size.shape != (q.shape[0], 2) or valid_size.device != q.device:
        raise UserError(
            f"valid_size has shape {tuple(valid_size.shape)} on {valid_size.device}, it should be ({q.shape[0]}, 2), "
            f"the rows and columns of each image of q, on {q.device}"
        )


def check_tables(q: Tensor, kind: str, tables: Sequence[Tensor]) -> None:
    """Refuse "rel" or "abs" position tables, of height and width, of a wrong shape, dtype or device."""
    for name, table in zip((f"{kind}_height", f"{kind}_width"), tables, strict=True):
        rows = "2L - 1" if kind == "rel" else "L"
        if table.ndim != 2 or table.shape[1] != q.shape[-1] or not fits_a_map(len(table), kind == "rel"):
            raise UserError(
                f"{name} has shape {tuple(table.shape)}, it should be ({rows}, {q.shape[-1]}) for a map of length L"
            )
        check_alike(q, {name: table})


def check_map(name: str, size: Any, of: str, tensor: Tensor, hint: str = "") -> tuple[int, int]:  # noqa: ANN401
    """(H, W) as :func:`map_size` gives it; a map with another number of positions than the tensor is refused."""
    height, width = map_size(name, size)
    positions = tensor.shape[-2]
    if height * width != positions:
        raise UserError(f"{name} ({height}, {width}) is {height * width} positions, but {of} has {positions}{hint}")
    return height, width


def map_size(name: str, size: Any) -> tuple[Any, Any]:  # noqa: ANN401 (whatever a user gave)
    """(H, W) as two whole numbers, which an exported program may leave open.

    Raises:
        UserError: anything else, or a side below 1.
    """
    try:
        height, width = (side if isinstance(side, int | SymInt) else index(side) for side in size)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name} must be (H, W), two whole numbers of at least 1, got {size!r}") from error
    if always_true(height < 1) or always_true(width < 1):
        raise UserError(f"{name} must be (H, W), two whole numbers of at least 1, got {size!r}")
    return height, width


def scale_or_default(scale: float | None, q: Tensor) -> float:
    """The scale, or d ** -0.5."""
    if scale is None:
        return q.shape[-1] ** -0.5
    if isinstance(scale, Tensor) or not isinstance(scale, Real | SymInt | SymFloat):
        raise UserError(f"scale should be a number, got {type(scale).__name__}; multiply q by a tensor instead")
    return scale if isinstance(scale, SymInt | SymFloat) else float(scale)
