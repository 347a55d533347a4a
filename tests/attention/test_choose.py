"""Which backend is chosen, and how a user overrides it."""

import logging

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

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


@pytest.mark.parametrize("by", ["a card", "a processor without CUDA"])
def test_tensors_without_data_can_be_on_a_card_that_is_not_there(by, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0" if by == "a card" else None)
    with FakeTensorMode():
        q, v = vectors(1024, 128, 128, torch.bfloat16, "cuda")
        assert choose_backend(q, v, (32, 32)) in BACKENDS


def test_values_too_wide_for_triton_are_named(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    q, v = torch.randn(1, 1, 6, 4), torch.randn(1, 1, 6, 200)
    with backend("triton"), pytest.raises(UserError, match=r"triton.*200.*cpu"):
        content_attention(q, q, v)


@pytest.fixture
def launched(monkeypatch):
    """The inputs of every program of attention that would be launched."""
    inputs = []
    monkeypatch.setattr(triton_launch, "launch", lambda program, programs, blocks, given, *a: inputs.append(given))
    monkeypatch.setattr(choose, "triton_serves", lambda q, v: True)
    return inputs


def test_without_positions_triton_gets_a_number_for_each_row_and_column_and_no_matrix(launched):
    q, k, v = torch.randn(3, 1, 2, 35, 16)
    with backend("triton"):
        content_attention(q, k, v, key_size=(5, 7))
    assert [bias.shape[-1] for bias in launched[0][3:]] == [5, 7]


def test_strided_vectors_are_copied_once_for_both_passes(launched):
    """As they come where the map is not in channels-last memory."""
    q, k, v = torch.randn(3, 1, 2, 16, 35).mT.requires_grad_()
    with backend("triton"):
        content_attention(q, k, v, key_size=(5, 7)).sum().backward()
    assert len(launched) == 3
    for vectors in zip(*(inputs[:3] for inputs in launched), strict=True):
        assert len({x.data_ptr() for x in vectors}) == 1


def test_stock_attention_gets_the_contiguous_vectors_that_its_fast_kernels_want(monkeypatch):
    given = []
    stock = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional, "scaled_dot_product_attention", lambda *a, **k: given.extend(a) or stock(*a, **k)
    )
    q, k, v = torch.empty(3, 1, 2, 16, 35, device="meta").mT
    content_attention(q, k, v, key_size=(5, 7))
    assert [x.stride(-1) for x in given] == [1, 1, 1]


def test_a_device_without_triton_says_which_backend_it_takes(caplog):
    tensors = [torch.empty(1, 1, *shape, device="meta") for shape in [(6, 4), (6, 4), (6, 4), (6, 2), (6, 3)]]
    with caplog.at_level(logging.DEBUG, logger="botvision"):
        biased_attention(*tensors)
    assert "folded" in caplog.text
