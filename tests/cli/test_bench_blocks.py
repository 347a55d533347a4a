"""Block sizes of the Triton programs, and `make gpu`, where there is no card."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from botvision.attention.backends.triton_launch import PLANS, Blocks
from botvision.benchmarks.attention_blocks import using

ROOT = Path(__file__).parents[2]
without_a_card = pytest.mark.skipif(torch.cuda.is_available(), reason="there is an NVIDIA card here")


@without_a_card
def test_without_a_card_the_benchmark_is_refused(refusal):
    assert "no GPU" in refusal("bench", "blocks")


@without_a_card
def test_without_a_card_make_gpu_says_so_and_ends_well():
    done = subprocess.run(
        [sys.executable, ROOT / ".ci" / "measure_gpu.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "no NVIDIA card" in done.stdout


def test_other_blocks_are_for_one_program_and_for_the_context_alone():
    key, before, other = ("hopper", "wide"), dict(PLANS), Blocks(64, 32, 4, 2)
    with pytest.raises(RuntimeError, match="too large"), using(key, "forward", other):
        assert PLANS[key] == before[key]._replace(forward=other)
        raise RuntimeError("too large")
    assert before == PLANS
