"""The operator of relative positions in PyTorch's own tools: derivatives, torch.func, tracing, counting.

What it computes on a card is checked in ``backends/test_triton_positions.py``; here PyTorch's operations take the place
of the programs, in float64, except where the operator's own backend "pytorch" is tested.
"""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from botvision.attention import backend, position_attention, relative_attention
from botvision.attention.backends import triton_launch, triton_positions
from botvision.attention.backends.triton_positions import key_size
from botvision.attention.position_op import biases, biases_backward, fused_biases
from botvision.attention.positions import relative_biases

SIZE, KEYS, SCALE = (3, 4), (2, 5), 0.7


def operands():
    """q and the tables, for keys on another map than the queries."""
    torch.manual_seed(0)
    shapes = [(2, 1, SIZE[0] * SIZE[1], 3), *((side + keys - 1, 3) for side, keys in zip(SIZE, KEYS, strict=True))]
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


def spread(table, size, keys):
    """(size, keys, d): the vector of the distance from each place to each key."""
    return table[torch.arange(keys) - torch.arange(size)[:, None] + size - 1]


def by_pytorch(q, rel_height, rel_width):
    return relative_biases(q, rel_height, rel_width, SIZE, KEYS, SCALE)


@pytest.fixture(autouse=True)
def programs(monkeypatch):
    """PyTorch's operations in the place of the launches; tells which gradients were asked for."""
    asked = []

    def forward(q, rel_height, rel_width, size, scale):
        keys = key_size(rel_height, rel_width, size)
        return tuple(
            bias.clone(memory_format=torch.contiguous_format)
            for bias in relative_biases(q, rel_height, rel_width, size, keys, scale)
        )

    def backward(grads, q, tables, size, scale, needed):
        asked.append(needed)
        height, width = (grad.unflatten(2, size) for grad in grads)
        rows, columns = (spread(*fit) for fit in zip(tables, size, key_size(*tables, size), strict=True))
        of_q = torch.einsum("bhyxk,ykd->bhyxd", height, rows) + torch.einsum("bhyxk,xkd->bhyxd", width, columns)
        of_rows = torch.einsum("bhyxk,bhyxd->ykd", height, q.unflatten(2, size))
        of_columns = torch.einsum("bhyxk,bhyxd->xkd", width, q.unflatten(2, size))
        of_tables = []
        for of_spread, table in zip((of_rows, of_columns), tables, strict=True):
            places, keys, _ = of_spread.shape
            index = torch.arange(keys) - torch.arange(places)[:, None] + places - 1
            flat = of_spread.flatten(0, 1)
            of_tables.append(table.new_zeros(table.shape).index_add(0, index.flatten(), flat))
        of_q = (scale * of_q.flatten(2, 3)).transpose(1, 2).contiguous().transpose(1, 2)
        found = [of_q, *(scale * grad for grad in of_tables)]
        return [grad if need else None for grad, need in zip(found, needed, strict=True)]

    monkeypatch.setattr(triton_positions, "position_biases", forward)
    monkeypatch.setattr(triton_positions, "position_gradients", backward)
    return asked


def by_operator(*tensors):
    return fused_biases(*tensors, SIZE, SCALE, "triton")


def total(function, tensors):
    height, width = function(*tensors)
    return height.sin().sum() + width.square().sum()


@pytest.mark.slow
@pytest.mark.parametrize("is_transposed", [False, True])
def test_pytorchs_own_check_of_operators(is_transposed):
    given = [tensor.detach().float() for tensor in operands()]
    if is_transposed:
        given = [tensor.mT.contiguous().mT for tensor in given]
    given = [tensor.requires_grad_() for tensor in given]
    for by in ("triton", "pytorch"):
        torch.library.opcheck(biases, (*given, list(SIZE), SCALE, by))
    upstream = [torch.ones_like(bias) for bias in by_pytorch(*given)]
    for needed in ([True] * 3, [False, True, False]):
        torch.library.opcheck(biases_backward, (*upstream, *given, list(SIZE), SCALE, needed))


@pytest.mark.parametrize("by", ["triton", "pytorch"])
def test_first_and_second_derivatives_are_those_of_differences(by):
    def compute(*tensors):
        return fused_biases(*tensors, SIZE, SCALE, by)

    assert torch.autograd.gradcheck(compute, operands())
    assert torch.autograd.gradgradcheck(compute, operands())


@pytest.mark.parametrize("which", range(3))
def test_only_the_gradients_that_are_asked_for_are_computed(which, programs):
    given = [tensor.detach() for tensor in operands()]
    given[which].requires_grad_()
    (grad,) = torch.autograd.grad(total(by_operator, given), given[which])
    torch.testing.assert_close(grad, torch.autograd.grad(total(by_pytorch, given), given[which])[0])
    assert programs == [[index == which for index in range(3)]]


def test_gradients_of_gradients_by_torch_func():
    given = [tensor.detach() for tensor in operands()]
    hessians = [
        torch.func.jacrev(torch.func.jacrev(lambda *tensors, compute=compute: total(compute, tensors)))(*given)
        for compute in (by_operator, by_pytorch)
    ]
    torch.testing.assert_close(*hessians)


def test_vmap_is_one_call_after_the_other():
    q, *tables = (tensor.detach() for tensor in operands())
    many = torch.stack([q, -2 * q])
    found = torch.vmap(by_operator, in_dims=(0, None, None))(many, *tables)
    for ours, theirs in zip(found, by_pytorch(q, *tables), strict=True):
        torch.testing.assert_close(ours, torch.stack([theirs, -2 * theirs]))


def test_one_graph_compiled_with_gradients():
    compiled = torch.compile(by_operator, fullgraph=True, backend="aot_eager")
    given = operands()
    found = torch.autograd.grad(total(compiled, given), given)
    for ours, theirs in zip(found, torch.autograd.grad(total(by_pytorch, given), given), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_flops_are_those_of_all_queries_and_distances():
    given = operands()
    with FlopCounterMode(display=False) as counter:
        total(by_operator, given).backward()
    distances = sum(len(table) for table in given[1:])
    assert counter.get_total_flops() == 3 * 2 * 2 * SIZE[0] * SIZE[1] * distances * 3


def test_attention_on_a_card_takes_it_and_no_other_place_does(monkeypatch, programs):
    """Decided by where attention itself is computed."""
    launched = []
    monkeypatch.setattr(triton_launch, "launch", lambda *a: launched.append(a))
    q = torch.randn(1, 1, 6, 16)
    tables = [torch.randn(3, 16, requires_grad=True), torch.randn(5, 16)]
    relative_attention(q, q, q, *tables, size=(2, 3)).sum().backward()
    assert not launched
    assert not programs
    monkeypatch.setattr("botvision.attention.choose.triton_serves", lambda q, v: True)
    monkeypatch.setattr("botvision.attention.choose.forced", "triton")
    relative_attention(q, q, q, *tables, size=(2, 3)).sum().backward()
    assert launched
    assert programs == [[False, True, False]]


def test_positions_of_wide_queries_are_left_to_pytorch_where_the_rest_is_by_triton(monkeypatch, programs):
    launched = []
    monkeypatch.setattr(triton_launch, "launch", lambda *a: launched.append(a))
    monkeypatch.setattr("botvision.attention.choose.triton_serves", lambda q, v: max(q.shape[-1], v.shape[-1]) <= 128)
    q, v = torch.randn(1, 1, 6, 160, requires_grad=True), torch.randn(1, 1, 6, 16)
    tables = torch.randn(3, 160), torch.randn(5, 160)
    with backend("triton"):
        assert position_attention(q, v, *tables, size=(2, 3)).shape == v.shape
    assert launched
    assert not programs


def test_compiled_under_autocast_gradients_keep_their_range_and_their_digits():
    """The compiler traces the backward pass under autocast, too, which would make zeros of small gradients."""
    torch.manual_seed(0)
    size = (21, 22)
    q, k, v, upstream = torch.randn(4, 1, 2, size[0] * size[1], 16)
    tables = [torch.randn(2 * side - 1, 16) for side in size]
    given = [(x * factor).half() for x, factor in zip((q, k, v, *tables), (100, 0.01, 1, 0.01, 0.01), strict=True)]
    upstream = (upstream * 1e-6).half()

    def gradients(function, dtype):
        leaves = [x.to(dtype).requires_grad_() for x in given]
        with torch.autocast("cpu", torch.float16):
            out = function(*leaves)
        return torch.autograd.grad(out, leaves, upstream.to(out.dtype))[3:]

    def attend(q, k, v, rel_height, rel_width):
        return relative_attention(q, k, v, rel_height, rel_width, size=size)

    compiled = torch.compile(attend, fullgraph=True, backend="aot_eager")
    for ours, exact in zip(gradients(compiled, torch.float32), gradients(attend, torch.float64), strict=True):
        assert (ours - exact).norm() < 1e-3 * exact.norm()
