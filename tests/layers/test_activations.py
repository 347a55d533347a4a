"""Activations that work in place, beside PyTorch's that do not."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from botvision.layers.activations import SiLU


class Copies(TorchDispatchMode):
    """Counts the copies that PyTorch makes."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.overloadpacket in (torch.ops.aten.clone, torch.ops.aten.copy_)
        return func(*args, **(kwargs or {}))


def test_silu_keeps_its_input_for_the_gradient_without_a_copy():
    x = torch.randn(3, 5, requires_grad=True)
    with Copies() as copies:
        out = SiLU(inplace=True)(x * 2)
    assert copies.count == 0
    (grad,) = torch.autograd.grad(out.sum(), x)
    expected = nn.SiLU()(x * 2)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(grad, torch.autograd.grad(expected.sum(), x)[0])


@pytest.mark.parametrize("inplace", [True, False])
def test_silu_takes_no_memory_where_no_gradient_is_asked_for(inplace):
    x = torch.randn(3, 5, requires_grad=True)
    expected = nn.SiLU()(x.detach())
    with torch.no_grad():
        given = x * 1
        found = SiLU(inplace=inplace)(given)
    torch.testing.assert_close(found, expected)
    assert (found.data_ptr() == given.data_ptr()) == inplace
