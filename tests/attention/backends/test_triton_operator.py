"""The Triton backend from end to end: tables or masks in, gradients of all five out, by Triton's interpreter.

The interpreter has to be asked for before Triton is imported, so it runs in a process of its own: this file as a
program, which hands back what it computed.
"""

import math
import os
import subprocess
import sys

import pytest
import torch

from botvision.attention import backend, biased_attention, relative_attention

CASES = {
    "float32": ((5, 7), None, torch.float32),
    "keys on another map": ((4, 6), (3, 9), torch.float32),
    "float16": ((6, 10), None, torch.float16),
    "masked": ((5, 7), None, torch.float32),
}
TOLERANCE = {torch.float32: 1e-5, torch.float16: 1e-2}


def operands(name):
    """q, k, v, the two tables (or biases) and the gradient of the output, of two images and two heads."""
    size, key_size, dtype = CASES[name]
    generator = torch.Generator().manual_seed(0)
    queries, keys = math.prod(size), math.prod(key_size or size)
    shapes = [(2, 2, queries, 32), (2, 2, keys, 32), (2, 2, keys, 48)]
    if name == "masked":
        shapes += [(2, 2, queries, side) for side in size]
    else:
        shapes += [(2 * max(sides) - 1, 32) for sides in zip(size, key_size or size, strict=True)]
    tensors = [torch.randn(shape, generator=generator).to(dtype) for shape in [*shapes, (2, 2, queries, 48)]]
    if name == "masked":
        tensors[3][..., 3:] = tensors[4][0, 0, 2] = -math.inf  # two rows for all queries, everything for one
    return tensors


def with_gradients(name, *, exact=False):
    size, key_size, _ = CASES[name]
    *tensors, upstream = (tensor.double() if exact else tensor for tensor in operands(name))
    leaves = [tensor.requires_grad_() for tensor in tensors]
    if name == "masked":
        out = biased_attention(*leaves, scale=0.2)
    else:
        out = relative_attention(*leaves, size=size, key_size=key_size, scale=0.2)
    return [out.detach(), *torch.autograd.grad(out, leaves, upstream)]


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory, triton_interpreter):
    """Results by case."""
    path = tmp_path_factory.mktemp("interpreted") / "results.pt"
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, __file__, str(path)], env=environment, check=True, timeout=300)
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("name", CASES)
def test_the_programs_give_the_reference_and_all_five_gradients(interpreted, name):
    with backend("reference"):
        expected = with_gradients(name, exact=True)
    for ours, theirs in zip(interpreted[name], expected, strict=True):
        assert (ours.double() - theirs).norm() <= TOLERANCE[CASES[name][2]] * theirs.norm()


def test_programs_whose_results_are_not_asked_for_do_not_run(interpreted):
    # All gradients; those of q alone; those of k and v.
    assert interpreted["launches"] == ["query", "key", "query", "key"]


def launches():
    """Which programs of the backward pass run."""
    from botvision.attention.backends import triton_launch

    seen = []
    for program in ("query", "key"):
        name = f"launch_{program}_gradient"
        original = getattr(triton_launch, name)
        setattr(
            triton_launch, name, lambda *a, program=program, original=original: seen.append(program) or original(*a)
        )
    for wanted in (range(5), [0], [1, 2]):
        q, k, v, bias_height, bias_width, _ = operands("masked")
        tensors = [q, k, v, bias_height, bias_width]
        leaves = [tensors[index].requires_grad_() for index in wanted]
        torch.autograd.grad(biased_attention(*tensors).sum(), leaves)
    return seen


if __name__ == "__main__":
    with backend("triton"):
        results = {name: with_gradients(name) for name in CASES}
        torch.save({**results, "launches": launches()}, sys.argv[1])
