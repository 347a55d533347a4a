"""The notebook runs, on photographs of COCO, and is stored without large outputs."""

import os
import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "finetune.ipynb"
PHOTOGRAPHS = Path(os.environ.get("BOTVISION_DATA", ROOT.parent / "shared" / "data" / "coco-mini"))
"""In COCO's layout, with people."""


def test_the_notebook_is_small_and_was_run():
    assert NOTEBOOK.stat().st_size < 300_000
    cells = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))


@pytest.mark.slow
@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="needs photographs in COCO's layout; BOTVISION_DATA says where")
def test_the_notebook_runs(tmp_path, monkeypatch):
    settings = {"BOTVISION_DATA": PHOTOGRAPHS, "BOTVISION_OUT": tmp_path, "BOTVISION_STEPS": 4}
    for name, value in {**settings, "CUDA_VISIBLE_DEVICES": "", "IPYTHONDIR": tmp_path / "ipython"}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute(cwd=tmp_path)
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output.text for output in shown if "botvision: " in output.get("text", "")]
    assert sum("image/png" in output.get("data", {}) for output in shown) == 1
    assert sum("image/jpeg" in output.get("data", {}) for output in shown) == 1
    assert len(list((tmp_path / "people" / "val2017").iterdir())) > 30
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()
