"""A run killed at any moment and started again by the same call ends as one that never was, bit for bit."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_a_run_killed_at_any_of_its_file_operations_goes_on(tmp_path):
    """And one that is killed ten times in a row."""
    script = Path(__file__).with_name("killed_runs.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    *once, often = map(json.loads, done.stdout.splitlines())
    assert len(once) > 50
    assert [kill for kill in once if kill["statuses"] != [-9, 0] or not kill["same"]] == []
    assert (often["statuses"], often["same"]) == ([-9] * 10 + [0], True)
    left = [kill["batches"] for kill in once]
    assert (left[0], left[-1]) == (3, 0)
    assert all(later in (earlier, earlier - 1) for earlier, later in pairwise(left))  # nothing is done twice
