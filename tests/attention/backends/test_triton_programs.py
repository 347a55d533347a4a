"""The Triton programs: run by Triton's interpreter or a card and compared with float64, and compiled for cards.

The interpreter has to be asked for before Triton is imported, and compiling for a card that is not there needs another
driver, so both happen in a process of their own, once for all tests: this file as a program. What it hands back is
checked case by case below.
"""

import math
import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from botvision.attention.backends import triton_launch
from botvision.attention.backends.triton_launch import patch_shape, triton_backward, triton_forward, triton_serves
from botvision.attention.backends.triton_positions import position_biases, position_gradients

HALF = (torch.float16, torch.bfloat16)
GRADIENTS = ("q", "k", "v", "bias_height", "bias_width")


class Case(NamedTuple):
    """Attention of some queries to a map; all keys' own positions where no number of queries is given."""

    size: tuple[int, int]
    width: int = 32
    value_width: int | None = None
    queries: int | None = None
    dtype: torch.dtype = torch.float32
    layout: str = "contiguous"
    bias_dtype: torch.dtype | None = None
    put: tuple[str, tuple[int | slice, ...], float] | None = None


CASES = {
    "square": Case((14, 14)),
    "width 1": Case((4, 6), 1, value_width=32),
    "one key": Case((1, 1), 64),
    "oblong, width 48": Case((5, 7), 48),
    "wide, values wider": Case((3, 17), 64, value_width=128),
    "tall, values narrower": Case((20, 4), 128, value_width=64),
    "width 96, fewer queries": Case((6, 9), 96, queries=21),
    "more queries": Case((4, 5), 16, queries=150),
    "no padding": Case((8, 16), queries=64),
    "rows of several patches": Case((3, 70)),
    "channels last": Case((6, 10), 48, layout="channels last"),
    "vectors not contiguous": Case((6, 10), layout="transposed"),
    "gradient of a sum": Case((4, 9), layout="expanded gradient"),
    "float16": Case((14, 14), 64, dtype=torch.float16),
    "bfloat16": Case((10, 18), 128, dtype=torch.bfloat16),
    "bfloat16 with float32 biases": Case((9, 20), 48, dtype=torch.bfloat16, bias_dtype=torch.float32),
    "no weight on a whole patch": Case((20, 7), put=("bias_height", (0, 0, 3, slice(17)), -math.inf)),
    "NaN in a query": Case((5, 7), put=("q", (0, 1, 3, 2), math.nan)),
    "NaN in a key": Case((5, 7), put=("k", (0, 0, 30, 0), math.nan)),
    "NaN in a value": Case((5, 7), put=("v", (0, 1, 0, 5), math.nan)),
    "NaN in a bias": Case((5, 7), dtype=torch.float16, put=("bias_width", (0, 0, 4, 6), math.nan)),
}

PLACES = [
    "interpreter",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA card")),
]


def operands(case: Case) -> list[torch.Tensor]:
    """q, k, v, bias_height, bias_width and the gradient of the output, of one image and two heads."""
    generator = torch.Generator().manual_seed(0)
    height, width = case.size
    queries, keys, values = case.queries or height * width, height * width, case.value_width or case.width
    shapes = [(queries, case.width), (keys, case.width), (keys, values), (queries, height), (queries, width)]
    tensors = [torch.randn(1, 2, *shape, generator=generator) for shape in [*shapes, (queries, values)]]
    bias_dtype = case.bias_dtype or case.dtype
    dtypes = [case.dtype, case.dtype, case.dtype, bias_dtype, bias_dtype, case.dtype]
    tensors = [tensor.to(dtype) for tensor, dtype in zip(tensors, dtypes, strict=True)]
    if case.put:
        name, index, number = case.put
        tensors[GRADIENTS.index(name)][index] = number
    if case.layout == "channels last":  # q, k and v side by side in every position
        together = torch.cat(tensors[:3], dim=-1).transpose(1, 2).contiguous().transpose(1, 2)
        tensors[:3] = together.split(case.width, dim=-1)
    if case.layout == "transposed":
        tensors = [tensor.transpose(-1, -2).contiguous().transpose(-1, -2) for tensor in tensors]
    if case.layout == "expanded gradient":
        tensors[-1] = tensors[-1][:, :1, :1, :1].expand_as(tensors[-1])
    return tensors


def by_kernel(case: Case, device: str = "cpu") -> dict[str, torch.Tensor]:
    """The output, the log-sum-exp and the five gradients as the programs compute them."""
    *inputs, grad_out = (tensor.to(device) for tensor in operands(case))
    scale = case.width**-0.5
    out, log_sum = triton_forward(*inputs, scale)
    grads = triton_backward(grad_out, inputs, out, log_sum, scale, [True] * 5)
    return {"out": out, "log_sum": log_sum, **dict(zip(GRADIENTS, grads, strict=True))}


def by_reference(case: Case) -> dict[str, torch.Tensor]:
    """The same from the matrix of logits and autograd, in float64."""
    *inputs, grad_out = (tensor.double() for tensor in operands(case))
    q, k, v, bias_height, bias_width = inputs = [tensor.requires_grad_() for tensor in inputs]
    logits = torch.einsum("bnid,bnjd->bnij", q, k) * case.width**-0.5
    rows = torch.arange(case.size[0]).repeat_interleave(case.size[1])
    columns = torch.arange(case.size[1]).repeat(case.size[0])
    logits = logits + bias_height[..., rows] + bias_width[..., columns]
    out = torch.einsum("bnij,bnje->bnie", logits.softmax(dim=-1), v)
    grads = torch.autograd.grad(out, inputs, grad_out)
    return {"out": out.detach(), "log_sum": logits.logsumexp(-1).detach(), **dict(zip(GRADIENTS, grads, strict=True))}


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory, triton_interpreter) -> dict[str, dict[str, torch.Tensor] | str]:
    """Every case by Triton's interpreter: the tensors, or the traceback of what went wrong."""
    return in_process_of_its_own("interpret", tmp_path_factory.mktemp("kernel"), TRITON_INTERPRET="1")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> dict[str, dict[str, dict[str, int]] | str]:
    """What the compiler says of every program in COMPILED, by case and program."""
    folder = tmp_path_factory.mktemp("kernel")
    return in_process_of_its_own("compile", folder, TRITON_INTERPRET="0", TRITON_CACHE_DIR=str(folder / "cache"))


def in_process_of_its_own(job: str, folder: Path, **environment: str) -> dict:
    """Run this file as a program, and return what it saved."""
    pytest.importorskip("triton")
    command = [sys.executable, __file__, job, str(folder / "results.pt")]
    run = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return torch.load(folder / "results.pt")


@pytest.fixture
def computed(request):
    """Gives the results of a case by the interpreter, which only then has to work, or on a card."""

    def compute(name: str, place: str) -> dict[str, torch.Tensor]:
        on_card = place == "cuda"
        result = by_kernel(CASES[name], place) if on_card else request.getfixturevalue("interpreted")[name]
        assert not isinstance(result, str), result
        return {key: tensor.cpu() for key, tensor in result.items()}

    return compute


def relative_error(tensor: torch.Tensor, expected: torch.Tensor) -> float:
    """Of norms; gradients that cancel, as all do that pass the softmax of a single key, count as 1 at least."""
    return ((tensor.double() - expected).norm() / expected.norm().clamp(min=1)).item()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("NaN")])
def test_outputs_and_gradients_are_the_references(name, place, computed):
    case = CASES[name]
    expected, result = by_reference(case), computed(name, place)
    errors = {key: relative_error(result[key], expected[key]) for key in expected}
    # Not by their maximum, which can pass over a NaN.
    assert all(error < (1e-2 if case.dtype in HALF else 1e-5) for error in errors.values()), errors


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("NaN")])
def test_nan_reaches_what_depends_on_it(name, place, computed):
    expected, result = by_reference(CASES[name]), computed(name, place)
    assert expected["out"].isnan().any()
    assert not expected["out"].isnan().all()
    for key in expected:
        torch.testing.assert_close(result[key].isnan(), expected[key].isnan(), msg=key)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ["square", "bfloat16 with float32 biases", "channels last"])
def test_results_have_the_dtypes_and_shapes_of_what_they_belong_to(name, place, computed):
    result = computed(name, place)
    for key, tensor in zip(GRADIENTS, operands(CASES[name]), strict=False):
        assert (result[key].dtype, result[key].shape) == (tensor.dtype, tensor.shape)
    assert result["out"].dtype == CASES[name].dtype
    assert result["log_sum"].dtype == torch.float32
    assert result["out"].transpose(1, 2).is_contiguous()  # channels last, as the network goes on


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA card")
@pytest.mark.parametrize("name", ["bfloat16", "rows of several patches"])
def test_two_runs_on_a_card_are_equal_to_the_bit(name):
    first, second = by_kernel(CASES[name], "cuda"), by_kernel(CASES[name], "cuda")
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA card")
@pytest.mark.parametrize("side", [64, 80])
def test_large_maps_on_a_card(side):
    case = Case((side, side), 128, dtype=torch.bfloat16, layout="channels last", bias_dtype=torch.float32)
    expected, result = by_reference(case), by_kernel(case, "cuda")
    errors = {key: relative_error(result[key].cpu(), expected[key]) for key in expected}
    assert all(error < 1e-2 for error in errors.values()), errors


@pytest.mark.parametrize(("batch", "queries"), [(0, 6), (2, 0)])
def test_nothing_is_computed_of_nothing(batch, queries):
    shapes = [(queries, 32), (6, 32), (6, 16), (queries, 2), (queries, 3)]
    inputs = [torch.randn(batch, 4, *shape) for shape in shapes]
    out, log_sum = triton_forward(*inputs, 1.0)
    assert (out.shape, log_sum.shape) == ((batch, 4, queries, 16), (batch, 4, queries))
    for tensor, grad in zip(inputs, triton_backward(out, inputs, out, log_sum, 1.0, [True] * 5), strict=True):
        torch.testing.assert_close(grad, torch.zeros_like(tensor))


def test_it_serves_what_it_can_compute(monkeypatch):
    def serves(width=64, value_width=64, dtype=torch.bfloat16):
        return triton_serves(torch.empty(1, 1, 4, width, dtype=dtype), torch.empty(1, 1, 4, value_width, dtype=dtype))

    monkeypatch.setattr(triton_launch, "HAS_TRITON", True)
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    assert not serves()  # a processor
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert serves()
    assert serves(16, 128)
    assert serves(dtype=torch.float32)
    assert not serves(dtype=torch.float64)
    assert serves(width=1)
    assert not serves(value_width=129)
    monkeypatch.setattr(triton_launch, "HAS_TRITON", False)
    assert not serves()


@pytest.mark.parametrize(
    "size", [(1, 1), (14, 14), (20, 20), (24, 24), (40, 40), (64, 64), (80, 80), (3, 100), (100, 3)]
)
@pytest.mark.parametrize("keys", [32, 64, 128])
def test_patches_are_of_all_keys_and_pad_no_more_than_they_must(size, keys):
    def padded(rows, columns):
        return -(-size[0] // rows) * rows * -(-size[1] // columns) * columns

    rows, columns = patch_shape(keys, *size)
    assert rows * columns == keys
    assert padded(rows, columns) == min(padded(keys // other, other) for other in (8, 16, 32, 64) if other <= keys)
    if min(size) >= 64:
        assert padded(rows, columns) == size[0] * size[1]


KIB = 1024
COMPILED = {
    "80x80 for Hopper": (Case((80, 80), 128, dtype=torch.bfloat16, bias_dtype=torch.float32), (9, 0)),
    "20x25 for Hopper": (Case((20, 25), 96, dtype=torch.bfloat16), (9, 0)),
    "64x64 for A100": (Case((64, 64), 128, dtype=torch.bfloat16, bias_dtype=torch.float32), (8, 0)),
    "float32 for A100": (Case((20, 25), 64), (8, 0)),
    "float16 for A100": (Case((64, 64), 128, dtype=torch.float16, bias_dtype=torch.float32), (8, 0)),
    "float16 for Hopper": (Case((64, 64), 128, dtype=torch.float16, bias_dtype=torch.float32), (9, 0)),
    "37x45 for Hopper": (Case((37, 45), 128, dtype=torch.bfloat16, bias_dtype=torch.float32), (9, 0)),
    "37x45 for Blackwell": (Case((37, 45), 128, dtype=torch.bfloat16, bias_dtype=torch.float32), (10, 0)),
}
SHARED_MEMORY = {(10, 0): 227 * KIB, (9, 0): 227 * KIB, (8, 0): 99 * KIB}
"""What a program may have on the smallest card of the family (A100 alone: 163 KB)."""


PROGRAMS = [
    "forward_program",
    "query_gradient_program",
    "key_gradient_program",
    "bias_program",
    "bias_query_gradient_program",
    "table_gradient_program",
]


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("name", COMPILED)
def test_programs_compile_and_fit_a_card(name, program, compiled):
    result = compiled[name]
    assert not isinstance(result, str), result
    assert result[program]["shared"] <= SHARED_MEMORY[COMPILED[name][1]]
    # Spilling a little of what the inner loop hardly touches is the price of large tiles; where the compiler gives
    # up, it is thousands of bytes.
    assert result[program]["stack"] <= 128
    # Products that wait for each other announce each one to the tensor cores; those that overlap, a row of them.
    assert result[program]["serialised"] == 0


def test_random_maps_share_their_programs(tmp_path):
    counts = in_process_of_its_own("count", tmp_path, TRITON_INTERPRET="0", TRITON_CACHE_DIR=str(tmp_path / "cache"))
    # Four shapes of patches, each for maps that they fit and maps that they do not; positions know of no patches.
    assert counts.keys() == set(PROGRAMS), counts
    assert max(counts.values()) <= 8, counts
    assert max(counts[name] for name in PROGRAMS[3:]) == 1, counts


def programs_for(generation: tuple[int, int]) -> list:
    """The six programs, with a driver that says that there is a card of this generation."""
    from triton.backends.compiler import GPUTarget
    from triton.runtime.driver import driver

    from botvision.attention.backends.triton_forward_program import forward_program
    from botvision.attention.backends.triton_gradient_programs import key_gradient_program, query_gradient_program
    from botvision.attention.backends.triton_position_programs import (
        bias_program,
        bias_query_gradient_program,
        table_gradient_program,
    )

    class AbsentCard:
        """Says which card to compile for."""

        def get_current_target(self) -> GPUTarget:
            return GPUTarget("cuda", 10 * generation[0] + generation[1], 32)

        def get_current_device(self) -> tuple[int, int]:
            return generation  # compiled programs are kept by device

        def get_current_stream(self, device) -> int:
            return 0

    driver.set_active(AbsentCard())
    triton_launch.capability = lambda device: generation
    attention_programs = [forward_program, query_gradient_program, key_gradient_program]
    return [*attention_programs, bias_program, bias_query_gradient_program, table_gradient_program]


def launch_all(case: Case) -> None:
    """Everything that attention by tables launches, on the meta device."""
    by_kernel(case, "meta")
    q = operands(case)[0].to("meta")
    tables = tuple(q.new_empty(2 * side - 1, case.width) for side in case.size)
    biases = position_biases(q, *tables, case.size, 1.0)
    position_gradients(biases, q, tables, case.size, 1.0, [True] * 3)


def count_programs(maps: int) -> dict[str, int]:
    """How many different programs, of each kind, random maps of up to 100 x 100 ask for on Hopper."""
    import random

    from triton import knobs

    asked: dict[str, set] = {}

    def note(*, key, fn, **_) -> bool:
        asked.setdefault(fn.name.rpartition(".")[2], set()).add(key)
        return True  # nothing is compiled

    def launch_of(program):
        def ask_only(*args, grid, warmup, **options):
            type(program).run(program, *args, grid=grid, warmup=True, **options)

        return ask_only

    knobs.runtime.jit_cache_hook = note
    for program in programs_for((9, 0)):
        program.run = launch_of(program)
    generator = random.Random(0)
    for _ in range(maps):
        size = generator.randint(1, 100), generator.randint(1, 100)
        launch_all(Case(size, 64, dtype=torch.bfloat16, layout="channels last", bias_dtype=torch.float32))
    return {name: len(keys) for name, keys in asked.items()}


def compile_for(case: Case, generation: tuple[int, int]) -> dict[str, dict[str, int]]:
    """Shared memory, registers and spilled bytes of the programs, compiled through the launchers themselves."""
    from triton import knobs

    found = {}

    def launch_of(program):
        def compile_only(*args, grid, warmup, **options):
            found[program.fn.__name__] = type(program).run(program, *args, grid=grid, warmup=True, **options)

        return compile_only

    for program in programs_for(generation):
        program.run = launch_of(program)
    launch_all(case)
    return {name: resources(program, knobs.nvidia) for name, program in found.items()}


def resources(program, tools) -> dict[str, int]:
    """What one compiled program takes of a card."""
    cubin = Path(os.environ["TRITON_CACHE_DIR"]) / "program.cubin"
    cubin.write_bytes(program.asm["cubin"])
    usage = subprocess.check_output([tools.cuobjdump.path, "--dump-resource-usage", str(cubin)], text=True)
    numbers = dict(word.split(":") for word in usage.split() if word.startswith(("REG:", "STACK:")))
    code = subprocess.check_output([tools.nvdisasm.path, "-c", str(cubin)], text=True)
    products, announced = code.count(" HGMMA."), code.count(" WARPGROUP.ARRIVE")
    return {
        "shared": program.metadata.shared,
        "registers": int(numbers["REG"]),
        "stack": int(numbers["STACK"]),
        "serialised": int(products > 0 and announced >= products),
    }


def attempt(compute, *args) -> dict | str:
    try:
        return compute(*args)
    except Exception:
        return traceback.format_exc()


if __name__ == "__main__":
    if sys.argv[1] == "interpret":
        from bfloat16_in_the_interpreter import multiply_bfloat16_in_the_interpreter

        multiply_bfloat16_in_the_interpreter()
        results = {name: attempt(by_kernel, case) for name, case in CASES.items()}
    elif sys.argv[1] == "count":
        results = attempt(count_programs, 200)
    else:
        results = {name: attempt(compile_for, *case) for name, case in COMPILED.items()}
    torch.save(results, sys.argv[2])
