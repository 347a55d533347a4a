"""The documentation site: built with warnings as errors, complete, and self-contained."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sphinx", reason="needs sphinx, myst-parser and furo: pip install '.[docs]'")
pytest.importorskip("myst_parser")
pytest.importorskip("furo")
from sphinx.util.inventory import InventoryFile

DOCS = Path(__file__).parents[2] / "docs"
MODULES = ("botvision", "botvision.attention", "botvision.layers", "botvision.models")
"""Whose public names are all in the API."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going", "-b", "html"]
    done = subprocess.run([*command, "-d", out / "doctrees", DOCS, out / "html"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out / "html"


def test_every_page_is_built(site):
    pages = {page.relative_to(DOCS).with_suffix(".html") for page in DOCS.rglob("*.md")}
    assert {page for page in pages if not (site / page).exists()} == set()


def test_the_api_has_every_public_name(site):
    inventory = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="").data
    documented = {
        name.rpartition(".")[2] for kind, names in inventory.items() if kind.startswith("py:") for name in names
    }
    public = {name for module in MODULES for name in importlib.import_module(module).__all__}
    assert public - documented == {"__version__"}


def test_a_page_opens_without_error_and_asks_no_other_host(site, open_page):
    page = open_page(site / "your-data.html")
    assert "data convert labelled" in page.words
    assert page.console == []
    assert [url for url in page.requests if not url.startswith("file:")] == []
