"""Whether a comparison of sizes always holds, with and without PyTorch's experimental module."""

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch.export import Dim, export

from botvision import symbolic
from botvision.layers import HalvingPool


class Asks(torch.nn.Module):
    """Stores what is known of the size of its input while it is traced."""

    def forward(self, x):
        side = x.shape[0]
        self.known = [symbolic.always_true(claim) for claim in (side >= 2, side >= 9, side == 4, side * 2 % 2 == 0)]
        return x * 2


def trace():
    model = Asks()
    program = export(model, (torch.zeros(4),), dynamic_shapes=({0: Dim.DYNAMIC(min=2, max=99)},), strict=False)
    assert program.module()(torch.ones(7)).shape == (7,)  # asking did not fix the size
    return model.known


def test_plain_comparisons_are_their_own_answers():
    assert symbolic.always_true(3 > 2) is True
    assert symbolic.always_true(2 > 3) is False


def test_of_an_open_size_only_what_holds_for_every_size_is_true():
    assert trace() == [True, False, False, True]


def test_without_the_experimental_module_nothing_is_known_of_open_sizes(monkeypatch):
    monkeypatch.setattr(symbolic, "_known_true", None)
    assert trace() == [False, False, False, False]
    assert symbolic.always_true(3 > 2) is True


@pytest.mark.pools_open_sizes
@pytest.mark.parametrize("size", [(4, 6), (5, 7)])
def test_pooling_of_open_size_is_right_without_it(monkeypatch, size):
    monkeypatch.setattr(symbolic, "_known_true", None)
    sides = {2: Dim.DYNAMIC(min=2, max=99), 3: Dim.DYNAMIC(min=2, max=99)}
    program = export(HalvingPool(), (torch.zeros(1, 2, 9, 8),), dynamic_shapes=(sides,)).module()
    x = torch.randn(1, 2, *size)
    torch.testing.assert_close(program(x), HalvingPool()(x))


@pytest.mark.pools_open_sizes
def test_a_compiled_program_of_open_size_is_compiled_once():
    torch._dynamo.reset()
    counter = CompileCounter()
    compiled = torch.compile(HalvingPool(), backend=counter, dynamic=True, fullgraph=True)
    for size in [(4, 6), (5, 7), (8, 9)]:
        x = torch.randn(1, 2, *size)
        torch.testing.assert_close(compiled(x), HalvingPool()(x))
    assert counter.frame_count == 1
