"""Every code block of README, CONTRIBUTING and docs runs, or a comment before it says why not: <!-- not run: ... -->.

A block that does not run is still read: its commands by the real command line, its Python by the compiler.
"""

import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from markdown_it import MarkdownIt
from torch.distributed.run import parse_args

from botvision.cli.app import make_app
from botvision.experiments.paper import TABLES

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
MARK = re.compile(r"<!-- not run: (.+?) -->", re.DOTALL)
LANGUAGES = {"", "bash", "python", "text", "yaml"}
COMMAND = re.compile(r"(?:[A-Z_]+=\S+ )*(?:botvision|torchrun|srun|make|pip|python3?)\b")
"""How a line with a command begins in a block without a language, whose other lines are layouts and output."""
OF_THE_SHELL = {"python3", "."}
"""Further commands, in blocks that are not run."""


class Block(NamedTuple):
    """A code block of a page."""

    page: Path
    line: int
    language: str
    text: str
    not_run: str
    """The reason; "" if it runs."""

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def commands(self) -> list[str]:
        """The lines that are commands, without continuations."""
        if self.language not in ("", "bash"):
            return []
        lines = [line for line in re.sub(r"\\\n\s*", "", self.text).splitlines() if line.strip()]
        return [line for line in lines if self.language == "bash" or COMMAND.match(line)]


def blocks_of(page: Path) -> Iterator[Block]:
    """The code blocks of a page; those of results/ are records of what was measured, so that none of them runs."""
    recorded = "a record" if page.is_relative_to(DOCS / "results") else ""
    mark = ""
    for token in MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8")):
        if token.type in ("fence", "code_block") and not token.info.startswith("{"):  # {directives} are MyST's
            yield Block(page, token.map[0] + 1, token.info.strip(), token.content, mark or recorded)
        elif mark:
            raise AssertionError(f"{page}:{token.map[0]}: no code block follows 'not run'")
        found = MARK.fullmatch(token.content.strip()) if token.type == "html_block" else None
        mark = found[1] if found else ""


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
RUN = [block for block in BLOCKS if not block.not_run and (block.language == "python" or block.commands())]
NOT_RUN = [block for block in BLOCKS if block.not_run]


def test_blocks_are_found_and_have_a_known_language():
    assert {block.language for block in BLOCKS} <= LANGUAGES
    commands = [command for block in BLOCKS for command in block.commands()]
    assert len(commands) > 60
    assert sum(block.language == "python" for block in BLOCKS) > 12


@pytest.mark.parametrize("page", sorted({str(block.page.relative_to(ROOT)) for block in RUN}))
def test_the_blocks_of_a_page_run_one_after_the_other(page, reader, run):
    names: dict = {}
    for block in (block for block in RUN if block.page == ROOT / page):
        if block.language == "python":
            exec(compile(block.text, str(block), "exec"), names)
        for command in block.commands():
            program, *words = shlex.split(command, comments=True)
            assert program == "botvision", f"{block}: only botvision runs here; say why {program} does not"
            status, _, err = run(*words)
            assert status == 0, f"{block}: {command}\n{err}"


@pytest.mark.parametrize("block", NOT_RUN, ids=str)
def test_a_block_that_does_not_run_can_be_read(block, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if block.language == "python":
        compile(block.text, str(block), "exec")
    for command in block.commands():
        words = [word for word in shlex.split(command, comments=True) if not re.match(r"[A-Z_]+=", word)]
        understand(words, run)


def understand(words: list[str], run) -> None:
    """Let the program that a command calls read its words, and do nothing."""
    program, *rest = words
    if program == "botvision":
        understand_botvision(rest, run)
    elif program == "torchrun":
        parsed = parse_args(rest)
        assert (parsed.module, parsed.training_script) == (True, "botvision")
        understand_botvision(parsed.training_script_args, run)
    elif program == "srun":
        understand_botvision(rest[rest.index("botvision") + 1 :], run)
    elif program == "make":
        subprocess.run(["make", "--dry-run", *rest], cwd=ROOT, check=True, capture_output=True)
    elif program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
            "optional-dependencies"
        ]
        assert set(re.findall(r"\[(\w+)\]", " ".join(rest))) <= set(extras)
    elif program == "python" and rest[0] == "-c":
        compile(rest[1], "-c", "exec")
    elif program == "python":
        assert (ROOT / rest[0]).is_file(), f"{rest[0]} is not there"
    else:
        assert program in OF_THE_SHELL


def understand_botvision(words: list[str], run) -> None:
    """Read a command of ours: its flags and, for `train`, the values of its fields."""
    if words[:2] == ["train", "--resume"]:
        status, _, err = run(*words)  # there is no such run: the folder is refused, never a word of the command
        assert status == 2
        assert f"botvision: {words[2]}" in err
    elif words[0] == "train":
        status, _, err = run(*words, "--print-config")
        assert status == 0, err
    else:
        make_app().parse_args(words, exit_on_error=False, print_error=False)


def test_the_page_about_the_paper_names_every_figure_and_table():
    text = (DOCS / "paper.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"`((?:table|figure)\d+/[\w.-]+)`", text))
    assert rows == {row for row in rows if row.split("/", 1)[1] in TABLES[row.split("/")[0]].rows}
    assert {row.split("/")[0] for row in rows} == set(TABLES) - {"table1"}
    assert all(re.search(rf"^\| Figure {number}\b", text, re.MULTILINE) for number in range(1, 6))
    assert all(re.search(rf"^\| Table {number}\b", text, re.MULTILINE) for number in range(1, 11))
