"""Imports go downwards from room to room, and files and functions stay small."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "botvision"
ROOMS = (
    "cli",
    "serving",
    "experiments",
    "benchmarks",
    "export",
    "tasks",
    "training",
    "data",
    "models",
    "layers",
    "attention",
    "",
)
"""From the top to the bottom; the last one is the files of the package itself, which every room uses."""
ROOM_OF_FILE = {"timm": "models"}
"""Files of the package itself that stand on a room."""
FRONT = {"__init__", "__main__"}
"""Files that show what the rooms hold."""
MOST_LINES_OF_A_FILE, MOST_LINES_OF_A_FUNCTION = 350, 50

FILES = sorted(SOURCE.rglob("*.py"))


def room_of(parts: tuple[str, ...]) -> str:
    """The room of a module, given as its names below botvision."""
    return parts[0] if (SOURCE / parts[0]).is_dir() else ROOM_OF_FILE.get(parts[0], "")


def imports(file: Path) -> Iterator[tuple[str, ...]]:
    """The modules of botvision that a file imports, also inside functions, as their names below botvision."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: imports relatively"
            names = [node.module, *(f"{node.module}.{name.name}" for name in node.names if node.module == "botvision")]
        yield from (tuple(name.split(".")[1:]) for name in names if name.startswith("botvision."))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_imports_go_downwards(file):
    parts = file.relative_to(SOURCE).with_suffix("").parts
    if parts[0] in FRONT:
        return
    own = room_of(parts)
    above = ROOMS[: ROOMS.index(own)]
    assert [".".join(name) for name in imports(file) if room_of(name) in above] == []


def test_every_folder_is_a_room():
    assert {folder.name for folder in SOURCE.iterdir() if any(folder.glob("*.py"))} == set(ROOMS) - {""}


def test_files_are_short():
    lengths = {str(file.relative_to(SOURCE)): len(file.read_text(encoding="utf-8").splitlines()) for file in FILES}
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES_OF_A_FILE} == {}


def test_functions_are_short():
    lengths = {
        f"{file.relative_to(SOURCE)}:{node.name}": node.end_lineno - node.lineno + 1
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if not node.name.endswith("_program")  # GPU programs, mostly arguments and loads
    }
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES_OF_A_FUNCTION} == {}
