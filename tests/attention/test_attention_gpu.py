"""The GPU's path from end to end: tables in, gradients of all five out, the programs run by Triton's interpreter.

The interpreter has to be asked for before Triton is imported, so it runs in a process of its own: this file as a
program, which hands back what it computed.
"""

import os
import subprocess
import sys

import pytest
import torch

from botvision.attention import definition_attention
from botvision.attention.kernel import HAS_TRITON
from botvision.attention.operator import operator_attention

CASES = {
    "float32": ((5, 7), (5, 7), torch.float32),
    "keys on another map": ((4, 6), (3, 9), torch.float32),
    "float16": ((6, 10), (6, 10), torch.float16),
}
TOLERANCE = {torch.float32: 1e-5, torch.float16: 1e-2}


def operands(name):
    """q, k, v, the two tables and the gradient of the output, of two images and two heads."""
    size, key_size, dtype = CASES[name]
    generator = torch.Generator().manual_seed(0)
    queries, keys = size[0] * size[1], key_size[0] * key_size[1]
    shapes = [(2, 2, queries, 32), (2, 2, keys, 32), (2, 2, keys, 48)]
    shapes += [(one + other - 1, 32) for one, other in zip(size, key_size, strict=True)]
    return [torch.randn(shape, generator=generator).to(dtype) for shape in [*shapes, (2, 2, queries, 48)]]


def with_gradients(attend, name, *, exact=False):
    size, key_size, _ = CASES[name]
    *tensors, upstream = (tensor.double() if exact else tensor for tensor in operands(name))
    leaves = [tensor.requires_grad_() for tensor in tensors]
    out = attend(*leaves, size, 0.2, key_size)
    return [out.detach(), *torch.autograd.grad(out, leaves, upstream)]


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory):
    """Results by case, of the operator with the interpreter on."""
    if not HAS_TRITON:
        pytest.skip("Triton is not installed")
    path = tmp_path_factory.mktemp("interpreted") / "results.pt"
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, __file__, str(path)], env=environment, check=True, timeout=300)
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("name", CASES)
def test_the_programs_give_the_definition_and_all_five_gradients(interpreted, name):
    for ours, theirs in zip(interpreted[name], with_gradients(definition_attention, name, exact=True), strict=True):
        assert (ours.double() - theirs).norm() <= TOLERANCE[CASES[name][2]] * theirs.norm()


@pytest.mark.parametrize("name", CASES)
def test_it_was_the_programs_that_ran(interpreted, name):
    # Two images, forward and backward, one image at a time where the workspace holds no more.
    assert interpreted[f"{name}, kernel calls"] == (4 if name == "float16" else 2)


def main(path):
    """Compute all cases, counting calls of the kernel."""
    from botvision.attention import gpu

    calls = []
    for function in ("kernel_forward", "kernel_backward"):
        original = getattr(gpu, function)
        setattr(gpu, function, lambda *given, original=original: calls.append(1) or original(*given))
    results = {}
    for name in CASES:
        calls.clear()
        gpu.WORKSPACE = 1 if name == "float16" else 2**20
        results[name] = with_gradients(operator_attention, name)
        results[f"{name}, kernel calls"] = len(calls)
    torch.save(results, path)


if __name__ == "__main__":
    main(sys.argv[1])
