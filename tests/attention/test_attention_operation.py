"""The operator as a citizen of PyTorch: derivatives, torch.func, autocast, tracing, counting, and what it logs."""

import logging

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from botvision.attention import (
    absolute_attention,
    content_attention,
    definition_attention,
    folded_attention,
    relative_attention,
)
from botvision.attention.operation import attention
from botvision.attention.operator import SMALL, choose, operator_attention, stock_attention

SIZE = (21, 23)


def operands(size=SIZE, *, batch=2, heads=2, width=8, value_width=4, dtype=torch.float64):
    torch.manual_seed(0)
    positions = size[0] * size[1]
    shapes = [(batch, heads, positions, width)] * 2 + [(batch, heads, positions, value_width)]
    shapes += [(2 * length - 1, width) for length in size]
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


def attend(q, k, v, rel_height, rel_width):
    return relative_attention(q, k, v, rel_height, rel_width, size=SIZE)


def test_the_map_of_these_tests_is_one_that_the_operator_serves():
    given = operands()
    assert SIZE[0] * SIZE[1] > SMALL
    assert choose(*given[:4], SIZE) is operator_attention


def test_sizes_may_be_numpys_numbers_and_lists():
    given = operands((3, 4))
    expected = relative_attention(*given, size=(3, 4))
    torch.testing.assert_close(relative_attention(*given, size=list(np.array([3, 4]))), expected)


@pytest.mark.slow
def test_pytorchs_own_check_of_operators():
    given = operands(dtype=torch.float32)
    torch.library.opcheck(attention, (*given, list(SIZE), list(SIZE), 0.25))
    torch.library.opcheck(attention, (given[0], None, given[2], *given[3:], list(SIZE), list(SIZE), 0.25))


def test_first_and_second_derivatives_are_those_of_differences():
    given = operands((2, 3), batch=1, heads=1, width=3, value_width=2)

    def small(*tensors):
        return operator_attention(*tensors, (2, 3), 0.7, (2, 3))

    assert torch.autograd.gradcheck(small, given)
    assert torch.autograd.gradgradcheck(small, given)


def test_third_derivatives_are_the_definitions():
    def loss(attend, given):
        return attend(*given, (2, 3), 0.7, (2, 3)).square().sum()

    third = []
    for compute in (operator_attention, definition_attention):
        given = operands((2, 3), batch=1, heads=1, width=3, value_width=2)
        (first,) = torch.autograd.grad(loss(compute, given), given[0], create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), given[0], create_graph=True)
        third.append(torch.autograd.grad(second.square().sum(), given)[0])
    torch.testing.assert_close(third[0], third[1])


def test_gradients_of_gradients_and_many_at_once_by_torch_func():
    given = [tensor.detach() for tensor in operands((2, 3), batch=1, heads=1, width=3, value_width=2)]

    def small(q, *rest):
        return operator_attention(q, *rest, (2, 3), 0.7, (2, 3)).square().sum()

    def by_definition(q, *rest):
        return definition_attention(q, *rest, (2, 3), 0.7).square().sum()

    second = torch.func.jacrev(torch.func.jacrev(small))(*given)
    torch.testing.assert_close(second, torch.func.jacrev(torch.func.jacrev(by_definition))(*given))
    vectorized = torch.autograd.functional.hessian(lambda q: small(q, *given[1:]), given[0], vectorize=True)
    torch.testing.assert_close(vectorized, second)


def test_vmap_is_one_call_after_the_other():
    given = operands(batch=1)
    many = [torch.stack([tensor, 2 * tensor, -tensor]) for tensor in given]
    expected = torch.stack([attend(*(tensor[i] for tensor in many)) for i in range(3)])
    torch.testing.assert_close(torch.vmap(attend)(*many), expected)
    shared = torch.vmap(attend, in_dims=(0, 0, 0, None, None))(*many[:3], *given[3:])
    torch.testing.assert_close(shared[1], attend(*(tensor[1] for tensor in many[:3]), *given[3:]))


def test_gradients_of_each_sample_by_vmap_of_grad():
    given = [tensor.detach() for tensor in operands(batch=1)]
    many = [torch.stack([tensor, 2 * tensor]) for tensor in given[:3]]

    def loss(*tensors):
        return attend(*tensors).square().sum()

    gradient = torch.func.grad(loss, argnums=(0, 3))
    found = torch.vmap(gradient, in_dims=(0, 0, 0, None, None))(*many, *given[3:])
    for i in range(2):
        leaves = [tensor.clone().requires_grad_() for tensor in (*(one[i] for one in many), *given[3:])]
        loss(*leaves).backward()
        torch.testing.assert_close(found[0][i], leaves[0].grad)
        torch.testing.assert_close(found[1][i], leaves[3].grad)


def test_autocast_casts_all_five():
    given = operands(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = attend(*given)
        assert content_attention(*given[:3]).dtype == torch.bfloat16
        assert content_attention(given[0].bfloat16(), *given[1:3]).dtype == torch.bfloat16
    assert out.dtype == torch.bfloat16
    rounded = [tensor.bfloat16().double() for tensor in given]
    assert (out - attend(*rounded)).norm() < 1e-2 * out.norm()


@pytest.mark.slow
def test_one_graph_compiled_for_every_size_with_gradients():
    def any_size(q, k, v, rel_height, rel_width, height, width):
        return relative_attention(q, k, v, rel_height, rel_width, size=(height, width))

    graphs = []

    def count(graph, example):
        graphs.append(graph)
        return graph

    torch.compile(any_size, fullgraph=True, dynamic=True, backend=count)(*operands(dtype=torch.float32), *SIZE)
    compiled = torch.compile(any_size, fullgraph=True, dynamic=True, backend="aot_eager")
    for size in [(21, 23), (22, 30), (25, 20)]:
        given = operands(size, dtype=torch.float32)
        found, expected = compiled(*given, *size), any_size(*given, *size)
        torch.testing.assert_close(found, expected)
        for ours, theirs in zip(
            torch.autograd.grad(found.sin().sum(), given),
            torch.autograd.grad(expected.sin().sum(), given),
            strict=True,
        ):
            torch.testing.assert_close(ours, theirs)
    assert len(graphs) == 1


def test_an_exported_program_has_the_operator_as_one_node_and_open_batches():
    class Layer(torch.nn.Module):
        def forward(self, q, k, v, rel_height, rel_width):
            return attend(q, k, v, rel_height, rel_width)

    given = operands(dtype=torch.float32)
    batch = torch.export.Dim("batch", min=1, max=64)
    shapes = tuple({0: batch} if index < 3 else None for index in range(5))
    program = torch.export.export(Layer(), tuple(given), dynamic_shapes=shapes)
    assert [node.target for node in program.graph.nodes].count(torch.ops.botvision.attention.default) == 1
    other = operands(batch=5, dtype=torch.float32)
    torch.testing.assert_close(program.module()(*other), attend(*other))


def test_flops_are_those_of_the_two_products_and_the_positions():
    given = operands(batch=3, heads=2, width=8, value_width=4)
    positions = SIZE[0] * SIZE[1]
    forward = 2 * 3 * 2 * positions * (8 * positions + 8 * sum(SIZE) + positions * 4)
    with FlopCounterMode(display=False) as counter:
        attend(*given).sum().backward()
    assert counter.get_total_flops() == 3 * forward


def test_queries_of_one_map_attend_to_keys_of_another():
    q, *_ = operands((5, 4), batch=1)
    _, k, v, *_ = operands((3, 7), batch=1)
    rel_height, rel_width = torch.randn(2 * 5 - 1, 8).double(), torch.randn(2 * 7 - 1, 8).double()
    found = relative_attention(q, k, v, rel_height, rel_width, size=(5, 4), key_size=(3, 7))
    # Distances -4 .. 2 of -4 .. 4, and -3 .. 6 of -6 .. 6.
    expected = definition_attention(q, k, v, rel_height[:7], rel_width[3:], (5, 4), 8**-0.5, (3, 7))
    torch.testing.assert_close(found, expected)


def test_keys_of_a_part_of_the_map_are_that_part_of_the_whole():
    q, k, v, rel_height, rel_width = operands((4, 5))
    found = relative_attention(
        q, k[:, :, :10], v[:, :, :10], rel_height, rel_width, size=(4, 5), key_size=(2, 5), scale=1.0
    )
    content = q @ k.transpose(2, 3)
    position = definition_logits(q, rel_height, rel_width, (4, 5))
    logits = (content + position)[..., :10]
    torch.testing.assert_close(found, logits.softmax(-1) @ v[:, :, :10])


def definition_logits(q, rel_height, rel_width, size):
    """q r^T, pair by pair."""
    row, column = (axis.flatten() for axis in torch.meshgrid(*map(torch.arange, size), indexing="ij"))
    vertical = rel_height[row[None] - row[:, None] + size[0] - 1]
    horizontal = rel_width[column[None] - column[:, None] + size[1] - 1]
    return torch.einsum("bnid,ijd->bnij", q, vertical + horizontal)


@pytest.mark.parametrize("size", [(4, 5), (21, 20)])
def test_absolute_and_content_attention_are_their_formulas(size):
    q, k, v, *_ = operands(size)
    rows, columns = torch.randn(size[0], 8).double(), torch.randn(size[1], 8).double()
    place = (rows[:, None] + columns[None]).flatten(0, 1)
    expected = (0.5 * q @ (k + place).transpose(2, 3)).softmax(-1) @ v
    torch.testing.assert_close(absolute_attention(q, k, v, rows, columns, size=size, scale=0.5), expected)
    expected = (8**-0.5 * q @ k.transpose(2, 3)).softmax(-1) @ v
    torch.testing.assert_close(content_attention(q, k, v), expected)


@pytest.mark.parametrize("size", [(14, 14), (19, 20), (20, 20)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_precision_is_the_same_on_both_sides_of_the_choice(size, dtype):
    given = operands(size, batch=1, heads=2, width=32, value_width=32, dtype=dtype)
    upstream = torch.randn(1, 2, size[0] * size[1], 32, dtype=dtype)
    out = relative_attention(*given, size=size)
    exact = [tensor.detach().double().requires_grad_() for tensor in given]
    expected = definition_attention(*exact, size, 32**-0.5)
    found = [out, *torch.autograd.grad(out, given, upstream)]
    wanted = [expected, *torch.autograd.grad(expected, exact, upstream.double())]
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    for ours, theirs in zip(found, wanted, strict=True):
        assert (ours.double() - theirs).norm() <= tolerance * theirs.norm()


@pytest.mark.parametrize(
    ("size", "width", "value_width", "dtype", "kind", "way"),
    [
        ((40, 40), 128, 128, torch.float16, "qk+qr", folded_attention),
        ((64, 64), 128, 128, torch.float16, "qk+qr", folded_attention),  # 256: as wide as stock kernels go
        ((80, 80), 128, 128, torch.float16, "qk+qr", operator_attention),
        ((64, 64), 128, 128, torch.float16, "qr", folded_attention),
        ((100, 100), 8, 250, torch.float16, "qk+qr", operator_attention),
        ((14, 14), 32, 32, torch.float64, "qk+qr", operator_attention),
        ((14, 14), 32, 32, torch.float64, "qk", operator_attention),
        ((80, 80), 128, 128, torch.bfloat16, "qk", stock_attention),
    ],
)
def test_without_the_kernel_a_device_takes_what_its_stock_kernels_can(size, width, value_width, dtype, kind, way):
    positions = size[0] * size[1]
    q = torch.empty(1, 4, positions, width, dtype=dtype, device="meta")
    v = torch.empty(1, 4, positions, value_width, dtype=dtype, device="meta")
    table = None if kind == "qk" else torch.empty(2 * size[0] - 1, width, dtype=dtype, device="meta")
    assert choose(q, None if kind == "qr" else q, v, table, size) is way


def test_float64_stays_under_autocast():
    given = operands((3, 4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert relative_attention(*given, size=(3, 4)).dtype == torch.float64


def test_the_slow_path_is_logged(caplog):
    given = operands((2, 2), batch=1)
    with caplog.at_level(logging.DEBUG, logger="botvision"):
        out = operator_attention(*given, (2, 2), 1.0, (2, 2))
        assert not caplog.records
        (first,) = torch.autograd.grad(out.sum(), given[0], create_graph=True)
        first.sum().backward()
    assert "second derivatives" in caplog.text


def test_a_device_without_the_kernel_says_so(caplog):
    given = [torch.empty(tensor.shape, dtype=torch.float16, device="meta") for tensor in operands((14, 14))]
    with caplog.at_level(logging.DEBUG, logger="botvision"):
        relative_attention(*given, size=(14, 14))
    assert "on meta in the folded form" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key_size": (4, 4)}, r"key_size \(4, 4\) is 16 positions, but k has 6"),
        ({"key_size": 6}, r"key_size must be \(H, W\), two whole numbers of at least 1, got 6"),
        ({"q": torch.zeros(2, 3, 6, 4, dtype=torch.int64)}, "q is torch.int64, it should be one of torch.float64"),
        ({"q": torch.zeros(2, 3, 6, 0)}, r"q has shape \(2, 3, 6, 0\), so no numbers in a vector"),
        ({"k": torch.zeros(1, 3, 6, 4)}, r"k has shape \(1, 3, 6, 4\), it should begin with q's \(2, 3\)"),
        ({"v": torch.zeros(2, 6, 4)}, "v must be"),
        ({"k": None}, "k should be a tensor, got NoneType"),
        ({"rel_height": None}, "rel_height should be a tensor, got NoneType"),
        ({"scale": torch.tensor(1.0)}, "scale should be a number, got Tensor; multiply q by a tensor instead"),
        ({"scale": "1"}, "scale should be a number, got str"),
        (
            {"k": torch.zeros(2, 3, 8, 4), "v": torch.zeros(2, 3, 8, 4)},
            r"k has 8 positions, .* give key_size=\(H', W'\)",
        ),
        ({"rel_width": torch.zeros(5, 4, device="meta")}, "rel_width is torch.float32 on meta, it should be"),
    ],
)
def test_what_does_not_belong_together_is_named(change, message):
    given = {
        name: tensor.detach().float() for name, tensor in zip("qkv", operands((2, 3), heads=3, width=4), strict=False)
    }
    given |= {"rel_height": torch.zeros(3, 4), "rel_width": torch.zeros(5, 4), "size": (2, 3)} | change
    with pytest.raises(ValueError, match=message) as error:
        relative_attention(**given)
    assert "\n" not in str(error.value)
