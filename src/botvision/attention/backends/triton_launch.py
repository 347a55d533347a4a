"""The Triton backend: attention with a separable bias as three programs, forward and backward.

    logits[i, j] = scale * q_i . k_j + bias_height[i, y_j] + bias_width[i, x_j]        out = softmax_j(logits) v

for keys on an H x W map in row-major order, j = y_j * W + x_j. Nothing of size N x H*W ever reaches the card's memory,
nothing is added up in an order that changes between runs, and sums and softmax are in float32.

This file decides and launches. Triton is imported by the first launch only: it comes with PyTorch for CUDA and is
missing from others.
"""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor

from botvision.attention.backends.query_blocks import empty_gradients, empty_output

SERVED_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
HAS_TRITON = find_spec("triton") is not None
"""Whether it is installed; it is not imported here."""
WIDEST = 128
"""Head width of queries and of values up to which the programs hold them in registers."""
NARROWEST_BLOCK = 16
"""Of a product on tensor cores; narrower vectors are padded with zeros."""

MINIMUM_CAPABILITY = (8, 0)
"""Cards from A100 on: bfloat16 products and asynchronous copies."""

Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""q, k, v, bias_height and bias_width."""


class Blocks(NamedTuple):
    """What one program works on, and with how much of the card."""

    queries: int
    keys: int
    """Of a patch of the map; for the programs of relative positions, distances in a run of a table."""
    warps: int
    stages: int


class Plan(NamedTuple):
    """The blocks of the three programs, and of the three of relative positions (``triton_positions.py``).

    Those of positions are not timed yet. They are as large as registers allow, and have one stage: with two, Triton 3.6
    lets the products on Hopper wait for each other.
    """

    forward: Blocks
    query_gradient: Blocks
    key_gradient: Blocks
    biases: Blocks = Blocks(64, 64, 8, 1)
    bias_query_gradient: Blocks = Blocks(64, 64, 8, 1)
    table_gradient: Blocks = Blocks(64, 64, 8, 1)


PLANS = {
    ("hopper", "wide"): Plan(Blocks(128, 64, 8, 3), Blocks(128, 64, 8, 3), Blocks(64, 128, 8, 2)),
    ("hopper", "narrow"): Plan(Blocks(128, 64, 4, 3), Blocks(64, 128, 4, 2), Blocks(64, 128, 8, 3)),
    ("blackwell", "wide"): Plan(Blocks(128, 64, 8, 2), Blocks(64, 64, 8, 2), Blocks(64, 128, 8, 2)),
    ("blackwell", "narrow"): Plan(Blocks(128, 64, 8, 2), Blocks(64, 64, 8, 2), Blocks(64, 128, 8, 2)),
    ("ampere", "wide"): Plan(Blocks(128, 64, 8, 2), Blocks(64, 64, 8, 2), Blocks(64, 64, 8, 2)),
    ("ampere", "narrow"): Plan(Blocks(128, 64, 8, 2), Blocks(128, 64, 8, 2), Blocks(32, 128, 8, 2)),
    # No tensor cores, and operands that fill the registers.
    ("any", "float32"): Plan(*6 * [Blocks(32, 32, 8, 1)]),
}
"""By the card's family and the width of the heads.

Those of Hopper were the fastest on an H100 (``benchmarks/attention_blocks.py``, bfloat16, 64x64 and 32x32). The others
are chosen by what the compiler makes of them: tiles as large as they can be before registers spill, in the shared
memory of the family's smallest card (99 KB on an RTX 3090, where A100 has 163).
"""


def triton_serves(q: Tensor, v: Tensor) -> bool:
    """Whether the programs can run for these queries and values (and keys and biases of the same kind)."""
    widths_fit = all(tensor.shape[-1] <= WIDEST for tensor in (q, v))
    is_interpreted = os.environ.get("TRITON_INTERPRET", "0") == "1"  # by Python, on any device: slow, for tests
    return q.dtype in SERVED_DTYPES and widths_fit and HAS_TRITON and (is_capable(q.device) or is_interpreted)


def is_capable(device: torch.device) -> bool:
    """Whether this is an NVIDIA card that has what the programs use."""
    # Tensors without data can be on a card that the machine does not have.
    is_nvidia = device.type == "cuda" and torch.version.cuda is not None and torch.cuda.is_available()
    return is_nvidia and capability(device) >= MINIMUM_CAPABILITY


def capability(device: torch.device) -> tuple[int, int]:
    """Generation of an NVIDIA card; Hopper's for the interpreter, which runs anything."""
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else (9, 0)


def triton_forward(
    q: Tensor, k: Tensor, v: Tensor, bias_height: Tensor, bias_width: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """:func:`~botvision.attention.reference.reference_attention`, and the log-sum-exp of each query's logits.

    Takes any strides; the biases may be float32 whatever the rest is. The log-sum-exp is (B, heads, N) in float32, and
    the backward pass needs it.
    """
    out = empty_output(q, v)
    log_sum = q.new_empty(q.shape[:-1], dtype=torch.float32)
    if q.numel():
        from botvision.attention.backends.triton_forward_program import forward_program

        blocks = choose_plan(q, v).forward
        inputs = as_read((q, k, v, bias_height, bias_width))
        programs = divide_up(q.shape[2], blocks.queries)
        launch(forward_program, programs, blocks, inputs, scale, with_strides(out), log_sum)
    return out, log_sum


def triton_backward(
    grad_out: Tensor, inputs: Inputs, out: Tensor, log_sum: Tensor, scale: float, needed: Sequence[bool]
) -> list[Tensor | None]:
    """Gradients of q, k, v, bias_height and bias_width, each in the shape and dtype of its own tensor.

    Arguments as :func:`~botvision.attention.backends.query_blocks.backward` takes them. A program whose results are not
    needed is not run.
    """
    if inputs[0].numel() == 0:  # keys without a query have a gradient, too: zero
        return [grad if grad is None else grad.zero_() for grad in empty_gradients(inputs, needed)]
    grad_out, out = with_contiguous_vectors(grad_out), with_contiguous_vectors(out)
    read, log_sum = as_read(inputs), log_sum.contiguous()
    grads: list[Tensor | None] = [None] * 5
    if needed[0] or needed[3] or needed[4]:
        delta = torch.empty_like(log_sum)
        grads[0], grads[3], grads[4] = launch_query_gradient(grad_out, read, out, log_sum, delta, scale)
    else:
        delta = (grad_out.float() * out.float()).sum(dim=-1)
    if needed[1] or needed[2]:
        grads[1], grads[2] = launch_key_gradient(grad_out, read, log_sum, delta.contiguous(), scale)
    return [
        grad.to(x.dtype) if grad is not None and need else None
        for grad, x, need in zip(grads, inputs, needed, strict=True)
    ]


def launch_query_gradient(
    grad_out: Tensor, inputs: Inputs, out: Tensor, log_sum: Tensor, delta: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, bias_height (in float32, as it is summed in memory) and bias_width; fills ``delta``."""
    from botvision.attention.backends.triton_gradient_programs import query_gradient_program

    q, _, v, bias_height, bias_width = inputs
    grad_q = empty_output(q, q)
    grad_bias_height = torch.empty(bias_height.shape, dtype=torch.float32, device=q.device)
    grad_bias_width = torch.empty(bias_width.shape, dtype=bias_width.dtype, device=q.device)
    blocks = choose_plan(q, v).query_gradient
    programs = divide_up(q.shape[2], blocks.queries)
    others = (with_strides(grad_out), with_strides(out), log_sum, delta)
    grads = (with_strides(grad_q), grad_bias_height, grad_bias_width)
    launch(query_gradient_program, programs, blocks, inputs, scale, *others, grads)
    return grad_q, grad_bias_height, grad_bias_width


def launch_key_gradient(
    grad_out: Tensor, inputs: Inputs, log_sum: Tensor, delta: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """Gradients of k and v."""
    from botvision.attention.backends.triton_gradient_programs import key_gradient_program

    q, k, v, bias_height, bias_width = inputs
    height, width = bias_height.shape[-1], bias_width.shape[-1]
    grad_k, grad_v = empty_output(k, k), empty_output(v, v)
    blocks = choose_plan(q, v).key_gradient
    rows, columns = patch_shape(blocks.keys, height, width)
    programs = divide_up(height, rows) * divide_up(width, columns)
    others = (with_strides(grad_out), log_sum, delta, (with_strides(grad_k), with_strides(grad_v)))
    launch(key_gradient_program, programs, blocks, inputs, scale, *others)
    return grad_k, grad_v


def launch(program: Any, programs: int, blocks: Blocks, inputs: Inputs, scale: float, *others: Any) -> None:  # noqa: ANN401
    """Run so many programs for each head; ``others`` are the arguments between the inputs and the sizes."""
    q, k, v, bias_height, bias_width = inputs
    batch, heads, queries, _ = q.shape
    height, width = bias_height.shape[-1], bias_width.shape[-1]
    with torch.cuda.device_of(q):
        program[(batch * heads * programs,)](
            (*(with_strides(x) for x in (q, k, v)), bias_height, bias_width),
            *others,
            *(heads, queries, height, width, scale),
            **constants(q, v, blocks, height, width),
        )


def choose_plan(q: Tensor, v: Tensor) -> Plan:
    """The blocks for these queries and values."""
    return PLANS[plan_key(q, v)]


def plan_key(q: Tensor, v: Tensor) -> tuple[str, str]:
    """The entry of :data:`PLANS`: by dtype, the card's family, and the wider of the two head widths."""
    if q.dtype == torch.float32:
        return "any", "float32"
    generation = capability(q.device)[0]
    # The Blackwell of data centres; RTX cards (12) have the shared memory of Ampere's.
    family = "hopper" if generation == 9 else "blackwell" if 10 <= generation < 12 else "ampere"
    return family, "wide" if max(q.shape[-1], v.shape[-1]) > 64 else "narrow"


def patch_shape(keys: int, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the patches, ``keys`` in all, that cover an H x W map with the least padding.

    Of equals the first: 16 columns take the fewest registers for the biases of both directions.
    """
    shapes = [(keys // columns, columns) for columns in (16, 32, 8, 64) if columns <= keys]
    return min(shapes, key=lambda shape: divide_up(height, shape[0]) * divide_up(width, shape[1]))


def constants(q: Tensor, v: Tensor, blocks: Blocks, height: int, width: int) -> dict[str, int | bool]:
    """The compile-time constants; each set of them, with each dtype, is a program of its own. Of the map's size they
    hold only the shape of the patches, one of four, and whether whole patches cover the map."""
    rows, columns = patch_shape(blocks.keys, height, width)
    return {
        "QK_WIDTH": q.shape[-1],
        "V_WIDTH": v.shape[-1],
        "QK_BLOCK": block_width(q.shape[-1]),
        "V_BLOCK": block_width(v.shape[-1]),
        "QUERIES": blocks.queries,
        "ROWS": rows,
        "COLUMNS": columns,
        "FULL": q.shape[2] % blocks.queries == 0 and height % rows == 0 and width % columns == 0,
        # Multiplying and adding in one instruction will stop being Triton's default; the inner loops depend on it.
        "enable_fp_fusion": True,
        "num_warps": blocks.warps,
        "num_stages": blocks.stages,
    }


def as_read(inputs: Inputs) -> Inputs:
    """q, k, v, bias_height and bias_width in memory that the programs can read."""
    q, k, v, bias_height, bias_width = inputs
    q, k, v = (with_contiguous_vectors(x) for x in (q, k, v))
    return q, k, v, bias_height.contiguous(), bias_width.contiguous()


def with_strides(tensor: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """(B, heads, positions, vector) as the programs take it: with the strides of batch, head and position."""
    return tensor, tensor.stride()[:3]


def with_contiguous_vectors(tensor: Tensor) -> Tensor:
    """The tensor itself where each vector is contiguous, as the programs read it; else a copy."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def divide_up(amount: int, part: int) -> int:
    """How many parts cover the amount."""
    return -(-amount // part)


def block_width(width: int) -> int:
    """The power of two that holds a vector, as tensor cores take it."""
    return max(NARROWEST_BLOCK, 1 << (width - 1).bit_length())
