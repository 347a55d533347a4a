"""The benchmark of attention: all implementations compute the same, what is missing is said, reports read back."""

import json
import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest
import torch
from PIL import Image
from rich.console import Console

from botvision.benchmarks import (
    IMPLEMENTATIONS,
    Row,
    about,
    attention_layer,
    attention_table,
    bench_attention,
    write_report,
)
from botvision.benchmarks.implementations import Implementation
from botvision.benchmarks.peak_memory import freed_at_once, peak_memory
from botvision.benchmarks.trial import is_out_of_memory
from botvision.errors import UserError

CPU = torch.device("cpu")
SIZES = [(6, 7), (5, 5)]
TINY = attention_layer.Setting(batch=2, heads=2, head_width=8, dtype=torch.float32, device=CPU)

INSTALLED = [name for name, implementation in IMPLEMENTATIONS.items() if implementation.is_installed()]


def quiet(line):
    """Takes what a benchmark says."""


@pytest.fixture
def not_compiled(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")  # compiling FlexAttention takes long; not compiled, it warns


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_every_implementation_is_measured_and_the_report_reads_back(not_compiled, tmp_path):
    rows = bench_attention(SIZES, list(IMPLEMENTATIONS), TINY, 1, quiet)
    write_report(tmp_path, about(TINY, list(IMPLEMENTATIONS)), rows)
    report = json.loads((tmp_path / "attention.json").read_text())
    assert (report["dtype"], report["batch"], report["heads"], report["head_width"]) == ("float32", 2, 2, 8)
    assert report["device"]
    assert report["versions"].keys() == {"botvision", "torch", "timm", "bottleneck-transformer-pytorch"}
    assert [(tuple(row["size"]), row["implementation"]) for row in report["rows"]] == [
        (size, name) for size in SIZES for name in INSTALLED
    ]
    for row in report["rows"]:
        name = row["implementation"]
        assert row["inference_ms"] > 0
        assert (row["difference"] is None) if name == "plain" else row["difference"] < 1e-5
        assert (row["training_ms"] is None) == ("no training" in row["note"]) == (name == "flex")
    with Image.open(tmp_path / "attention.png") as picture:
        picture.load()
        assert picture.format == "PNG"
    assert {file.name for file in tmp_path.iterdir()} == {"attention.json", "attention.png"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_implementations_compute_figure_4_in_half_precision(dtype):
    names = [name for name in INSTALLED if name not in ("flex", "plain")]
    rows = bench_attention([(5, 5)], names, replace(TINY, dtype=dtype), 1, quiet)
    assert max(row.difference for row in rows) < {torch.bfloat16: 5e-2, torch.float16: 1e-2}[dtype]


def test_an_implementation_that_is_not_installed_is_left_out_and_named(monkeypatch):
    monkeypatch.setitem(IMPLEMENTATIONS, "timm", Implementation(IMPLEMENTATIONS["timm"].build, "not-there"))
    said = []
    rows = bench_attention([(5, 5)], ["botvision", "timm"], TINY, 1, said.append)
    assert [row.implementation for row in rows] == ["botvision"]
    assert any("timm" in line and "not-there" in line and "pip install" in line for line in said)


def test_the_kernel_of_segment_anything_fast_gets_what_its_signature_says(monkeypatch):
    def with_mask(q, k, v, rel_h, rel_w):
        """Its documented arguments: (B, heads, N, H, 1) and (B, heads, N, 1, W), added up as SAM does."""
        mask = (rel_h + rel_w).view(*q.shape[:3], rel_h.shape[3] * rel_w.shape[4])
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    module = ModuleType("segment_anything_fast.flash_4")
    module._attention_rel_h_rel_w = with_mask
    package = ModuleType("segment_anything_fast")
    package.__spec__ = ModuleSpec("segment_anything_fast", None)
    monkeypatch.setitem(sys.modules, "segment_anything_fast", package)
    monkeypatch.setitem(sys.modules, "segment_anything_fast.flash_4", module)
    (row,) = bench_attention([(6, 7)], ["sam-fast"], TINY, 1, quiet)
    assert row.difference < 1e-5  # from Figure 4
    assert row.training_ms is None


class Hungry(torch.nn.Module):
    """Has no memory left on maps larger than that of the check."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        if x.shape[-1] > attention_layer.CHECKED_SIZE[1]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.layer(x)


def test_an_implementation_that_runs_out_of_memory_says_so_in_its_row(monkeypatch):
    monkeypatch.setitem(IMPLEMENTATIONS, "timm", Implementation(lambda layer, size: Hungry(layer)))
    rows = bench_attention([(2, 30)], ["timm", "plain"], TINY, 1, say=lambda line: None)
    assert [row.implementation for row in rows] == ["timm", "plain"]
    assert rows[0].note == "no inference: out of memory, no training: out of memory"
    assert rows[0].inference_ms is rows[0].training_ms is rows[0].training_mib is None
    assert rows[1].training_ms > 0


def test_an_implementation_that_fails_is_left_out_and_named(monkeypatch):
    def broken(layer, size):
        raise RuntimeError("no kernel for this card\nand a long explanation")

    monkeypatch.setitem(IMPLEMENTATIONS, "timm", Implementation(broken))
    said = []
    rows = bench_attention(SIZES[:1], ["botvision", "timm"], TINY, 1, said.append)
    assert [row.implementation for row in rows] == ["botvision"]
    assert any("timm" in line and "no kernel for this card" in line and "\n" not in line for line in said)
    monkeypatch.setitem(IMPLEMENTATIONS, "botvision", Implementation(broken))
    with pytest.raises(RuntimeError, match="no kernel"):
        bench_attention(SIZES[:1], ["botvision", "timm"], TINY, 1, quiet)


def test_memory_that_a_processor_does_not_have_is_out_of_memory():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied"))


def test_an_implementation_that_computes_something_else_is_refused(monkeypatch):
    monkeypatch.setitem(IMPLEMENTATIONS, "timm", Implementation(IMPLEMENTATIONS["plain"].build))
    with pytest.raises(UserError, match=r"timm computes something else than Figure 4"):
        bench_attention([(4, 4)], ["timm"], TINY, 1, say=lambda line: None)


def test_ratios_are_of_ours_to_the_row():
    ours = Row((4, 5), "botvision", 1.0, 30.0, 10.0, 2.0, 0.0, "")
    peer = Row((4, 5), "timm", 4.0, 40.0, 100.0, None, 0.0, "no training memory")
    console = Console(width=100)
    with console.capture() as capture:
        console.print(attention_table({"batch": 2}, [peer, ours]))
    lines = capture.get().splitlines()
    timm = next(line for line in lines if "timm" in line)
    assert "4x5" in timm
    assert timm.split()[2:] == ["4", "(0.25)", "40", "(0.75)", "100", "(0.10)", "-", "-"]
    botvision = next(line for line in lines if "botvision" in line)
    assert botvision.split()[-1] == "51.2"  # 2 MiB over 40 positions, in KiB


def test_peak_memory_of_a_known_call():
    def call() -> torch.Tensor:
        first = torch.ones(16 * 2**20)
        second = first + 1
        del first
        return second + 1

    with freed_at_once():
        call()
        peak = peak_memory(call, CPU)
    if peak is None:
        pytest.skip("this system does not tell")
    assert abs(peak / 2**20 - 128) < 4  # two buffers of 64 MiB, though three were filled
