"""What src/ imports is declared, and what is declared is imported."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NOT_IMPORTED = {"tensorboard"}
"""torch.utils.tensorboard, which src/ imports, cannot do without it."""
OF_OTHERS = {"triton": "torch", "pydantic-core": "pydantic"}
"""Packages that another package always installs, in the version that it needs."""
NOT_IN_THE_INDEX = {"segment-anything-fast"}
"""Peers of benchmarks that people install from their repositories; without them they are left out."""


def imported_modules(file: Path) -> Iterator[str]:
    """Full names of the modules that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def names_of(requirements: list[str]) -> set[str]:
    """The names of packages, without bounds, as the index spells them."""
    return {line.partition(">=")[0].partition("[")[0].lower().replace("_", "-") for line in requirements}


@pytest.fixture(scope="module")
def imported() -> set[str]:
    """The packages that src/ imports, by the names under which they are installed."""
    modules = {name.partition(".")[0] for file in (ROOT / "src").rglob("*.py") for name in imported_modules(file)}
    distributions = packages_distributions()
    declared = names_of(PROJECT["dependencies"])
    packages = set()
    for module in modules - set(sys.stdlib_module_names) - {"botvision"}:
        providers = {name.lower().replace("_", "-") for name in distributions.get(module, [module])}
        packages |= providers & declared or providers  # several packages can bring files of one module
    return packages


def test_every_package_that_is_declared_is_imported(imported):
    assert names_of(PROJECT["dependencies"]) - imported <= set(NOT_IMPORTED)


def test_every_package_that_is_imported_is_declared(imported):
    optional = {name for extra in PROJECT["optional-dependencies"].values() for name in names_of(extra)}
    assert imported - names_of(PROJECT["dependencies"]) - set(OF_OTHERS) - NOT_IN_THE_INDEX <= optional - {"botvision"}
