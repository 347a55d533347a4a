"""The benchmark of attention: every way computes the same, what is missing is said, and reports read back."""

import json

import pytest
import torch
from botvision.benchmark import WAYS, Row, attention_table, bench_attention
from botvision.benchmark import attention as benchmark
from botvision.benchmark.memory import freed_at_once, peak_memory
from botvision.benchmark.peers import Way
from PIL import Image
from rich.console import Console

from botvision.cli import main
from botvision.errors import UserError

SHORT = ["--sizes", "6x7", "5x5", "--repeats", "1"]
CPU = torch.device("cpu")
TINY = benchmark.Setting(batch=2, heads=2, head_width=8, dtype=torch.float32, device=CPU)


@pytest.fixture
def bench(capsys, monkeypatch):
    """Runs the command on two small maps; gives standard output and standard error."""
    monkeypatch.setenv("CXX", "no-such-compiler")  # compiling FlexAttention takes long; not compiled, it warns

    def run(*flags) -> tuple[str, str]:
        layer = ["--heads", "2", "--head-width", "8", "--batch", "2", "--device", "cpu"]
        with pytest.raises(SystemExit) as caught:
            main(["bench", "attention", *layer, *SHORT, *map(str, flags)])
        output = capsys.readouterr()
        assert caught.value.code == 0, output.err
        return output.out, output.err

    return run


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_every_way_is_measured_and_the_report_reads_back(bench, tmp_path):
    out, err = bench("--out", tmp_path / "report")
    for word in ("6x7", "5x5", *WAYS, torch.__version__, "FlexAttention not compiled"):
        assert word in out
    assert "left out" not in err
    report = json.loads((tmp_path / "report" / "attention.json").read_text())
    assert (report["dtype"], report["batch"], report["heads"], report["head_width"]) == ("float32", 2, 2, 8)
    assert report["device"]
    assert report["versions"].keys() == {"botvision", "torch", "timm", "bottleneck-transformer-pytorch"}
    assert [(tuple(row["size"]), row["way"]) for row in report["rows"]] == [
        (size, way) for size in ((6, 7), (5, 5)) for way in WAYS
    ]
    for row in report["rows"]:
        assert row["inference_ms"] > 0
        assert (row["difference"] is None) if row["way"] == "plain" else row["difference"] < 1e-5
        assert (row["training_ms"] is None) == ("no training" in row["note"]) == (row["way"] == "flex")
    with Image.open(tmp_path / "report" / "attention.png") as picture:
        picture.load()
        assert picture.format == "PNG"
    assert {file.name for file in (tmp_path / "report").iterdir()} == {"attention.json", "attention.png"}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_ways_compute_the_definition_in_half_precision(bench, dtype):
    out, _ = bench("--json", "--dtype", dtype, "--ways", *(way for way in WAYS if way not in ("flex", "plain")))
    assert max(row["difference"] for row in json.loads(out)["rows"]) < {"bfloat16": 5e-2, "float16": 1e-2}[dtype]


def test_chosen_ways_alone_are_measured(bench):
    out, _ = bench("--ways", "plain", "botvision", "--threads", torch.get_num_threads(), "--json")
    assert [row["way"] for row in json.loads(out)["rows"]] == ["plain", "botvision"] * 2


def test_a_peer_that_is_not_installed_is_left_out_and_named(bench, monkeypatch):
    monkeypatch.setitem(WAYS, "timm", Way(WAYS["timm"].build, "not-there"))
    out, err = bench("--ways", "botvision", "timm")
    assert "timm is left out: not-there is not installed (pip install 'botvision[bench]')" in err
    assert "botvision" in out
    assert "timm" not in out


class Hungry(torch.nn.Module):
    """Has no memory left on maps larger than that of the check."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        if x.shape[-1] > benchmark.CHECKED_SIZE[1]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.layer(x)


def test_a_way_that_runs_out_of_memory_says_so_in_its_row(monkeypatch):
    monkeypatch.setitem(WAYS, "timm", Way(lambda layer, size: Hungry(layer)))
    rows = bench_attention([(2, 30)], ["timm", "plain"], TINY, 1, say=lambda line: None)
    assert [row.way for row in rows] == ["timm", "plain"]
    assert rows[0].note == "no inference: out of memory, no training: out of memory"
    assert rows[0].inference_ms is rows[0].training_ms is rows[0].training_mib is None
    assert rows[1].training_ms > 0


def test_memory_that_a_processor_does_not_have_is_out_of_memory():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert benchmark.is_out_of_memory(caught.value)
    assert not benchmark.is_out_of_memory(RuntimeError("shapes cannot be multiplied"))


def test_a_way_that_computes_something_else_is_refused(monkeypatch):
    monkeypatch.setitem(WAYS, "timm", Way(WAYS["plain"].build))
    with pytest.raises(UserError, match=r"timm computes something else than the definition"):
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


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--ways", "tim"], "did you mean timm"),
        (["--ways"], "--ways needs at least one"),
        (["--sizes", "14"], "--sizes has '14'"),
        (["--sizes", "0x4"], "--sizes has '0x4'"),
        (["--dtype", "int8"], "--dtype"),
        (["--threads", "0"], "--threads must be at least 1"),
        (["--device", "tpu"], "--device must be"),
        (["--widht", "4"], "unknown option --widht"),
    ],
)
def test_flags_that_make_no_sense_end_in_one_line(capsys, flags, named):
    with pytest.raises(SystemExit) as caught:
        main(["bench", "attention", *flags])
    output = capsys.readouterr()
    assert (caught.value.code, output.out) == (2, "")
    assert len(output.err.splitlines()) == 1
    assert named in output.err
