"""The GPU path: attention with split 2-D positions as three Triton programs, forward and backward.

    logits[i, j] = scale * q_i . k_j + vertical[i, y_j] + horizontal[i, x_j]        out = softmax_j(logits) v

for keys on an H x W map in row-major order, j = y_j * W + x_j. Nothing of size N x N ever reaches the card's memory,
nothing is added up in an order that changes between runs, and sums and softmax are in float32.

This file decides and launches. Triton is imported by the first launch only: it comes with PyTorch for CUDA and is
missing from others.
"""

import os
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor

SERVED_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
HAS_TRITON = find_spec("triton") is not None
"""Whether it is installed; it is not imported here."""
NARROWEST, WIDEST = 16, 128
"""Head widths of queries and of values that the programs can hold in registers."""

MINIMUM_CAPABILITY = (8, 0)
"""Cards from A100 on: bfloat16 products and asynchronous copies."""


class Blocks(NamedTuple):
    """What one program works on, and with how much of the card."""

    queries: int
    keys: int
    warps: int
    stages: int


class Plan(NamedTuple):
    """The blocks of the three programs."""

    forward: Blocks
    query_gradient: Blocks
    key_gradient: Blocks


# Chosen by what the compiler makes of them: tiles as large as they can be before registers spill, in the shared memory
# of the family's smallest card (227 KB on Hopper; 99 KB on an RTX 3090, where A100 has 163). Not measured: no GPU could
# be had when this was written.
HOPPER = Plan(Blocks(128, 128, 8, 2), Blocks(128, 64, 8, 2), Blocks(64, 128, 8, 2))
AMPERE_WIDE = Plan(Blocks(128, 64, 8, 2), Blocks(64, 64, 8, 2), Blocks(64, 64, 8, 2))
AMPERE_NARROW = Plan(Blocks(128, 64, 8, 2), Blocks(128, 64, 8, 2), Blocks(32, 128, 8, 2))
FLOAT32 = Plan(*3 * [Blocks(32, 32, 8, 1)])  # no tensor cores, and operands that fill the registers


def kernel_serves(q: Tensor, v: Tensor) -> bool:
    """Whether the programs can run for these queries and values (and keys and position terms of the same kind).

    True for float16, bfloat16 and float32 heads of 16 to 128 on an NVIDIA card from A100 on, where Triton is
    installed; also on the CPU where the environment asks for Triton's interpreter (slow, for tests).
    """
    widths_fit = all(NARROWEST <= tensor.shape[-1] <= WIDEST for tensor in (q, v))
    return q.dtype in SERVED_DTYPES and widths_fit and HAS_TRITON and (is_capable(q.device) or is_interpreted())


def is_interpreted() -> bool:
    """Whether Triton runs its programs in Python, on any device."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def is_capable(device: torch.device) -> bool:
    """Whether this is an NVIDIA card that has what the programs use."""
    return device.type == "cuda" and torch.version.cuda is not None and capability(device) >= MINIMUM_CAPABILITY


def capability(device: torch.device) -> tuple[int, int]:
    """Generation of an NVIDIA card; Hopper's for the interpreter, which runs anything."""
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else (9, 0)


def kernel_forward(
    q: Tensor, k: Tensor, v: Tensor, vertical: Tensor, horizontal: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """Attention of N queries to the M = H*W keys of a map; any strides.

    Args:
        q: (B, heads, N, d).
        k: (B, heads, M, d).
        v: (B, heads, M, e).
        vertical: (B, heads, N, H), what the key's row adds to each query's logits.
        horizontal: (B, heads, N, W), what the key's column adds.
        scale: multiplies q . k alone.

    Returns:
        The values that are attended to, (B, heads, N, e) in q's dtype and channels-last memory, and the logarithm of
        the softmax's denominators, (B, heads, N) in float32, which the backward needs.
    """
    out = empty_vectors(q, v.shape[-1])
    log_sum = q.new_empty(q.shape[:-1], dtype=torch.float32)
    if q.numel() == 0:
        return out, log_sum
    from botvision.attention.kernel_programs import forward_program

    q, k, v, vertical, horizontal = (with_contiguous_vectors(x) for x in (q, k, v, vertical, horizontal))
    tensors = (q, k, v, vertical, horizontal, out)
    height, width = vertical.shape[-1], horizontal.shape[-1]
    blocks = choose_plan(q, v).forward
    count = q.shape[0] * q.shape[1] * divide_up(q.shape[2], blocks.queries)
    with torch.cuda.device_of(q):
        forward_program[(count,)](
            *tensors,
            log_sum,
            *(position_strides(x) for x in tensors),
            *(q.shape[1], q.shape[2], height, width, scale),
            **constants(q, v, blocks, height, width),
        )
    return out, log_sum


def kernel_backward(
    grad_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    vertical: Tensor,
    horizontal: Tensor,
    out: Tensor,
    log_sum: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v, vertical and horizontal, each in the shape and dtype of its own tensor.

    Args:
        grad_out: (B, heads, N, e), gradient of the forward's first result; any strides.
        q, k, v, vertical, horizontal, scale: what the forward was given.
        out, log_sum: what it returned.
    """
    if q.numel() == 0:  # keys without a query have a gradient, too: zero
        return tuple(torch.zeros_like(x) for x in (q, k, v, vertical, horizontal))  # type: ignore[return-value]
    q, k, v, vertical, horizontal, out, grad_out = (
        with_contiguous_vectors(x) for x in (q, k, v, vertical, horizontal, out, grad_out)
    )
    inputs = (q, k, v, vertical, horizontal)
    log_sum = log_sum.contiguous()
    delta = torch.empty_like(log_sum)
    with torch.cuda.device_of(q):
        # The first also computes delta for the second.
        grad_q, grad_vertical, grad_horizontal = launch_query_gradient(grad_out, inputs, out, log_sum, delta, scale)
        grad_k, grad_v = launch_key_gradient(grad_out, inputs, log_sum, delta, scale)
    return grad_q, grad_k, grad_v, grad_vertical.to(vertical.dtype), grad_horizontal


def launch_query_gradient(
    grad_out: Tensor, inputs: tuple[Tensor, ...], out: Tensor, log_sum: Tensor, delta: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, vertical (in float32, as it is summed in memory) and horizontal; fills ``delta``."""
    from botvision.attention.kernel_gradients import query_gradient_program

    q, _, v, vertical, horizontal = inputs
    height, width = vertical.shape[-1], horizontal.shape[-1]
    grads = (
        empty_vectors(q, q.shape[-1]),
        torch.empty(vertical.shape, dtype=torch.float32, device=q.device),
        torch.empty(horizontal.shape, dtype=horizontal.dtype, device=q.device),
    )
    blocks = choose_plan(q, v).query_gradient
    count = q.shape[0] * q.shape[1] * divide_up(q.shape[2], blocks.queries)
    query_gradient_program[(count,)](
        *(grad_out, *inputs, out, log_sum, delta, *grads),
        *(position_strides(x) for x in (grad_out, *inputs, out, *grads)),
        *(q.shape[1], q.shape[2], height, width, scale),
        **constants(q, v, blocks, height, width),
    )
    return grads


def launch_key_gradient(
    grad_out: Tensor, inputs: tuple[Tensor, ...], log_sum: Tensor, delta: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """Gradients of k and v."""
    from botvision.attention.kernel_gradients import key_gradient_program

    q, k, v, vertical, horizontal = inputs
    height, width = vertical.shape[-1], horizontal.shape[-1]
    grads = (empty_vectors(k, k.shape[-1]), empty_vectors(v, v.shape[-1]))
    blocks = choose_plan(q, v).key_gradient
    rows, columns = patch_shape(blocks.keys, height, width)
    count = q.shape[0] * q.shape[1] * divide_up(height, rows) * divide_up(width, columns)
    key_gradient_program[(count,)](
        *(grad_out, *inputs, log_sum, delta, *grads),
        *(position_strides(x) for x in (grad_out, *inputs, *grads)),
        *(q.shape[1], q.shape[2], height, width, scale),
        **constants(q, v, blocks, height, width),
    )
    return grads


def choose_plan(q: Tensor, v: Tensor) -> Plan:
    """By dtype, the card's family, and the wider of the two head widths."""
    if q.dtype == torch.float32:
        return FLOAT32
    # Hopper and the Blackwell of data centres (9, 10) have the memory and the large products; RTX cards (12) have not.
    if 9 <= capability(q.device)[0] < 12:
        return HOPPER
    return AMPERE_WIDE if max(q.shape[-1], v.shape[-1]) > 64 else AMPERE_NARROW


def patch_shape(keys: int, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the patches, ``keys`` in all, that cover an H x W map with the least padding.

    Of equals the first: 16 columns take the fewest registers for the position terms of both directions.
    """
    shapes = [(keys // columns, columns) for columns in (16, 32, 8, 64) if columns <= keys]
    return min(shapes, key=lambda shape: divide_up(height, shape[0]) * divide_up(width, shape[1]))


def constants(q: Tensor, v: Tensor, blocks: Blocks, height: int, width: int) -> dict[str, int | bool]:
    """What a program is compiled for."""
    rows, columns = patch_shape(blocks.keys, height, width)
    return {
        "QK_WIDTH": q.shape[-1],
        "V_WIDTH": v.shape[-1],
        "QK_BLOCK": power_of_two(q.shape[-1]),
        "V_BLOCK": power_of_two(v.shape[-1]),
        "QUERIES": blocks.queries,
        "ROWS": rows,
        "COLUMNS": columns,
        "FULL_QUERIES": q.shape[2] % blocks.queries == 0,
        "FULL_PATCHES": height % rows == 0 and width % columns == 0,
        # Multiplying and adding in one instruction is about to stop being Triton's default; the inner loops live of it.
        "enable_fp_fusion": True,
        "num_warps": blocks.warps,
        "num_stages": blocks.stages,
    }


def position_strides(tensor: Tensor) -> tuple[int, int, int]:
    """Strides of batch, head and position of (B, heads, positions, vector)."""
    return tensor.stride(0), tensor.stride(1), tensor.stride(2)


def with_contiguous_vectors(tensor: Tensor) -> Tensor:
    """The tensor itself where each vector is contiguous, as the programs read it; else a copy."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def empty_vectors(like: Tensor, width: int) -> Tensor:
    """(B, heads, positions, width) with the heads of a position side by side, as channels-last networks have them."""
    batch, heads, positions = like.shape[:3]
    return like.new_empty(batch, positions, heads, width).transpose(1, 2)


def divide_up(amount: int, part: int) -> int:
    """How many parts cover the amount."""
    return -(-amount // part)


def power_of_two(number: int) -> int:
    """The next one, or the number itself."""
    return 1 << (number - 1).bit_length()
