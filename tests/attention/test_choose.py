"""Which backend is chosen, and how a user overrides it."""

import logging

import pytest
import torch

from botvision.attention import BACKENDS, backend, biased_attention, choose, content_attention, relative_attention
from botvision.attention.backends import triton_launch
from botvision.attention.choose import choose_backend
from botvision.errors import UserError


def vectors(positions, width, value_width, dtype, device):
    q = torch.empty(1, 4, positions, width, dtype=dtype, device=device)
    return q, torch.empty(1, 4, positions, value_width, dtype=dtype, device=device)


@pytest.mark.parametrize(
    ("size", "dtype", "name"),
    [
        ((19, 20), torch.float32, "reference"),
        ((20, 20), torch.float32, "blocks"),
        ((64, 64), torch.float64, "blocks"),
        ((14, 14), torch.float64, "reference"),
        ((14, 14), torch.bfloat16, "blocks"),  # the reference would round after every product
    ],
)
def test_a_processor_takes_the_reference_for_small_maps_alone(size, dtype, name):
    q, v = vectors(size[0] * size[1], 32, 32, dtype, "cpu")
    assert choose_backend(q, v, size) == name


@pytest.mark.parametrize(
    ("size", "width", "value_width", "dtype", "name"),
    [
        ((40, 40), 128, 128, torch.float16, "folded"),
        ((64, 64), 128, 128, torch.float16, "folded"),  # 256: as wide as stock kernels go
        ((80, 80), 128, 128, torch.float16, "blocks"),
        ((100, 100), 8, 250, torch.float16, "blocks"),
        ((14, 14), 32, 32, torch.float64, "blocks"),
    ],
)
def test_without_triton_a_device_takes_what_its_stock_kernels_can(size, width, value_width, dtype, name):
    q, v = vectors(size[0] * size[1], width, value_width, dtype, "meta")
    assert choose_backend(q, v, size) == name


def test_a_card_with_triton_takes_it(monkeypatch):
    monkeypatch.setattr(triton_launch, "HAS_TRITON", True)
    monkeypatch.setattr(triton_launch, "is_capable", lambda device: True)
    for dtype, name in [(torch.float32, "triton"), (torch.bfloat16, "triton"), (torch.float64, "blocks")]:
        q, v = vectors(6400, 128, 128, dtype, "meta")
        assert choose_backend(q, v, (80, 80)) == name


@pytest.mark.parametrize("name", ["reference", "blocks", "folded"])
def test_the_context_has_the_named_backend_compute(name, monkeypatch):
    calls = []
    original = BACKENDS[name]
    monkeypatch.setitem(choose.BACKENDS, name, lambda *tensors: calls.append(name) or original(*tensors))
    tensors = [torch.randn(1, 1, *shape) for shape in [(6, 4), (6, 4), (6, 4), (6, 2), (6, 3)]]
    expected = biased_attention(*tensors)
    calls.clear()
    with backend(name):
        torch.testing.assert_close(biased_attention(*tensors), expected)
        relative_attention(*tensors[:3], torch.randn(3, 4), torch.randn(5, 4), size=(2, 3))
        content_attention(*tensors[:3])
    assert calls == [name] * 3
    with pytest.raises(KeyError), backend(name):
        raise KeyError
    assert choose.forced is None


def test_a_backend_that_does_not_exist_or_cannot_serve_is_refused(monkeypatch):
    with pytest.raises(UserError, match="blocks, triton"), backend("cuda"):
        pass
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    tensors = [torch.randn(1, 1, *shape) for shape in [(6, 4), (6, 4), (6, 4), (6, 2), (6, 3)]]
    with backend("triton"), pytest.raises(UserError, match=r"triton.*cpu"):
        biased_attention(*tensors)


def test_a_device_without_triton_says_which_backend_it_takes(caplog):
    tensors = [torch.empty(1, 1, *shape, device="meta") for shape in [(6, 4), (6, 4), (6, 4), (6, 2), (6, 3)]]
    with caplog.at_level(logging.DEBUG, logger="botvision"):
        biased_attention(*tensors)
    assert "folded" in caplog.text
