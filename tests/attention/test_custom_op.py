"""The operator in PyTorch's own tools: derivatives, torch.func, autocast, tracing, counting, and what it logs."""

import logging

import pytest
import torch
from torch.autograd import forward_ad
from torch.utils.flop_counter import FlopCounterMode

from botvision.attention import (
    biased_attention,
    content_attention,
    custom_op,
    figure_4_attention,
    operator_rules,
    reference_attention,
    relative_attention,
)
from botvision.attention.choose import choose_backend
from botvision.attention.custom_op import attention, attention_backward, fused_attention

SIZE = (21, 23)


def operands(size=SIZE, *, batch=2, heads=2, width=8, value_width=4, dtype=torch.float64):
    """q, k, v and two tables."""
    torch.manual_seed(0)
    positions = size[0] * size[1]
    shapes = [(batch, heads, positions, width)] * 2 + [(batch, heads, positions, value_width)]
    shapes += [(2 * length - 1, width) for length in size]
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


def small_operands():
    """q, k, v and two biases, for keys on a 2x3 map and five queries."""
    torch.manual_seed(0)
    shapes = [(1, 1, 5, 3), (1, 1, 6, 3), (1, 1, 6, 2), (1, 1, 5, 2), (1, 1, 5, 3)]
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


def by_blocks(*tensors):
    return fused_attention(*tensors, 0.7, "blocks")


def by_reference(*tensors):
    return reference_attention(*tensors, 0.7)


def attend(q, k, v, rel_height, rel_width):
    return relative_attention(q, k, v, rel_height, rel_width, size=SIZE)


def test_the_map_of_these_tests_is_one_that_the_operator_serves():
    q, _, v, *_ = operands()
    assert choose_backend(q, v, SIZE) == "blocks"


@pytest.mark.slow
@pytest.mark.parametrize("members", [1, 5])
def test_pytorchs_own_check_of_operators(members):
    given, others = small_operands(), (0.25, "blocks", members)
    torch.library.opcheck(attention, (*given, *others))
    out, log_sum = (result.detach() for result in attention(*given, *others))
    for needed in ([True] * 5, [False, True, False, False, True]):
        torch.library.opcheck(attention_backward, (torch.ones_like(out), *given, out, log_sum, *others, needed))


@pytest.mark.parametrize("members", [1, 5])
def test_first_and_second_derivatives_are_those_of_differences(members):
    def attend(*tensors):
        return fused_attention(*tensors, 0.7, "blocks", members)

    assert torch.autograd.gradcheck(attend, small_operands())
    assert torch.autograd.gradgradcheck(attend, small_operands())


def test_third_derivatives_are_the_references():
    third = []
    for compute in (by_blocks, by_reference):
        given = small_operands()
        (first,) = torch.autograd.grad(compute(*given).square().sum(), given[0], create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), given[0], create_graph=True)
        third.append(torch.autograd.grad(second.square().sum(), given)[0])
    torch.testing.assert_close(third[0], third[1])


@pytest.mark.parametrize("which", range(5))
def test_only_the_gradients_that_are_asked_for_are_computed(which, monkeypatch):
    given = [tensor.detach() for tensor in small_operands()]
    expected = torch.func.grad(lambda *tensors: by_reference(*tensors).sin().sum(), argnums=which)(*given)
    seen = []
    original = custom_op.query_blocks.backward
    monkeypatch.setattr(custom_op.query_blocks, "backward", lambda *a: seen.append(original(*a)) or seen[0])
    given[which].requires_grad_()
    (grad,) = torch.autograd.grad(by_blocks(*given).sin().sum(), given[which])
    torch.testing.assert_close(grad, expected)
    assert [gradient is not None for gradient in seen[0]] == [index == which for index in range(5)]


def test_gradients_of_gradients_and_many_at_once_by_torch_func():
    given = [tensor.detach() for tensor in small_operands()]

    def loss(q, *rest):
        return by_blocks(q, *rest).square().sum()

    second = torch.func.jacrev(torch.func.jacrev(loss))(*given)
    expected = torch.func.jacrev(torch.func.jacrev(lambda *tensors: by_reference(*tensors).square().sum()))(*given)
    torch.testing.assert_close(second, expected)
    vectorized = torch.autograd.functional.hessian(lambda q: loss(q, *given[1:]), given[0], vectorize=True)
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


@pytest.mark.parametrize("which", range(5))
def test_forward_mode_is_refused_and_not_dropped(which):
    with forward_ad.dual_level():
        given = [tensor.detach() for tensor in operands()]
        given[which] = forward_ad.make_dual(given[which], torch.ones_like(given[which]))
        with pytest.raises(NotImplementedError):
            attend(*given)


@pytest.mark.parametrize("size", [(2, 3), (21, 20)])
def test_attention_without_positions_has_second_derivatives(size):
    """On small maps as on large ones."""
    given = operands(size, batch=1, heads=1, value_width=8)[:3]

    def by_formula(q, k, v):
        return ((q * q.shape[-1] ** -0.5) @ k.mT).softmax(dim=-1) @ v

    second = []
    for compute in (content_attention, by_formula):
        first = torch.autograd.grad(compute(*given).square().sum(), given, create_graph=True)
        second.append(torch.autograd.grad(sum(grad.square().sum() for grad in first), given))
    torch.testing.assert_close(*second)


def test_a_pytorch_that_does_not_tell_of_torch_func_still_has_gradients_and_vmap(monkeypatch):
    given = small_operands()
    expected = torch.autograd.grad(by_reference(*given).sin().sum(), given)
    monkeypatch.setattr(operator_rules, "in_torch_func", lambda: False)
    for ours, theirs in zip(torch.autograd.grad(by_blocks(*given).sin().sum(), given), expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    many = [torch.stack([tensor.detach(), -tensor.detach()]) for tensor in given]
    torch.testing.assert_close(torch.vmap(by_blocks)(*many)[0], by_reference(*given))


def test_autocast_casts_vectors_and_tables():
    given = operands(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = attend(*given)
        assert content_attention(*given[:3]).dtype == torch.bfloat16
        assert content_attention(given[0].bfloat16(), *given[1:3]).dtype == torch.bfloat16
    assert out.dtype == torch.bfloat16
    rounded = [tensor.bfloat16().double() for tensor in given]
    assert (out - attend(*rounded)).norm() < 1e-2 * out.norm()


def test_float64_stays_under_autocast():
    given = operands((3, 4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert relative_attention(*given, size=(3, 4)).dtype == torch.float64


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


@pytest.mark.slow
def test_the_primitive_compiles_to_one_graph_with_gradients():
    torch.manual_seed(0)
    shapes = [(2, 2, 500, 8), (2, 2, 600, 8), (2, 2, 600, 4), (1, 2, 500, 20), (2, 1, 500, 30)]
    given = [torch.randn(shape, requires_grad=True) for shape in shapes]
    compiled = torch.compile(biased_attention, fullgraph=True, backend="aot_eager")
    found, expected = compiled(*given), biased_attention(*given)
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(
        torch.autograd.grad(found.sin().sum(), given), torch.autograd.grad(expected.sin().sum(), given), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


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


def test_flops_are_those_of_the_two_products():
    q, k, v, *_ = (tensor.detach() for tensor in operands(batch=3, heads=2, width=8, value_width=4))
    positions = SIZE[0] * SIZE[1]
    biases = [torch.randn(3, 2, positions, side, dtype=torch.float64) for side in SIZE]
    with FlopCounterMode(display=False) as counter:
        biased_attention(q.requires_grad_(), k, v, *biases).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * 3 * 2 * positions * positions * (8 + 4)


def test_second_derivatives_are_logged(caplog):
    given = small_operands()
    with caplog.at_level(logging.DEBUG, logger="botvision"):
        out = by_blocks(*given)
        assert not caplog.records
        (first,) = torch.autograd.grad(out.sum(), given[0], create_graph=True)
        first.sum().backward()
    assert "second derivatives" in caplog.text


def test_the_operator_computes_figure_4():
    given = operands()
    torch.testing.assert_close(attend(*given), figure_4_attention(*given, SIZE, 8**-0.5))


@pytest.mark.parametrize("size", [(3, 4), (90, 91)])
def test_shapes_are_known_on_the_meta_device(size):
    given = [torch.empty(tensor.shape, device="meta", requires_grad=True) for tensor in operands(size)]
    out = relative_attention(*given, size=size)
    assert out.shape == (2, 2, size[0] * size[1], 4)
    for tensor, grad in zip(given, torch.autograd.grad(out.sum(), given), strict=True):
        assert grad.shape == tensor.shape
