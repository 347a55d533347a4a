"""The networks' cost against the paper's, and the tables that print it."""

import dataclasses
import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from botvision.models.summary import render_models, render_tree, summarize, tree

PAPER = [
    # model, image side, million parameters, billion multiply-adds, where the paper prints them
    ("resnet50", 1024, 25.5, 85.4, "Table 1"),
    ("botnet50", 1024, 20.8, 102.98, "Table 1"),
    ("botnet50", 1024, None, 121, "footnote 10"),
    ("resnet101", 1024, None, 162.99, "footnote 10"),
    ("resnet152", 1024, None, 240.56, "footnote 10"),
    ("resnet50", 224, 25.5, 3.86, "Table 9"),
    ("botnet50", 224, 20.8, 3.79, "Table 9"),
    ("botnet50_s1", 224, 20.8, 4.27, "Table 9"),
    ("botnet_t3", 224, 33.5, 7.3, "Figure 5"),
    ("botnet_t4", 224, 54.7, 10.9, "Figure 5"),
    ("botnet_t5", 256, 75.1, 19.3, "Figure 5"),
    ("botnet_t6", 320, 53.9, 23.3, "Figure 5"),
    ("botnet_t7", 384, 75.1, 45.8, "Figure 5"),
]
"""Typed from the paper; Figure 5 from its longer version."""

CONTRADICTED_MADDS = {
    ("botnet50", "footnote 10"),
    *((name, "Table 9") for name in ("resnet50", "botnet50", "botnet50_s1")),
}
"""Figures that contradict others of the paper (published.json, "contradictions")."""

AS_DEFINED = {"botnet_t3": 30.5, "botnet_t4": 51.7, "botnet_t5": 69.1, "botnet_t6": 47.9, "botnet_t7": 69.2}
"""Million parameters of T3 to T7 with squeeze-and-excitation in the convolutional blocks alone, as the text has it."""

PUBLISHED = Path(__file__).parents[3] / "shared" / "reference" / "published.json"


@pytest.fixture(scope="module")
def summaries():
    return summarize()


def find(summaries, name, source):
    (found,) = [row for row in summaries if row.name == name and row.source.startswith(source)]
    return found


@pytest.mark.parametrize(("name", "side", "params", "madds", "source"), PAPER)
def test_cost_is_the_published(summaries, name, side, params, madds, source):
    ours = find(summaries, name, source)
    assert (ours.input_size, ours.published_params, ours.published_madds) == (side, params, madds)
    expected = AS_DEFINED.get(name, params)
    if expected is not None:
        assert ours.params / 1e6 == pytest.approx(expected, rel=5e-3)
    if (name, source) not in CONTRADICTED_MADDS:
        # T3-T7 are printed to a tenth of a billion, without a word on what is counted.
        assert ours.madds / 1e9 == pytest.approx(madds, rel=1.5e-2 if name in AS_DEFINED else 1e-3)


def test_what_the_paper_contradicts_has_a_reason_and_nothing_else_has(summaries):
    explained = {(row.name, row.source.split(",")[0]) for row in summaries if row.why}
    assert explained == CONTRADICTED_MADDS | {(name, "Figure 5") for name in AS_DEFINED}


def test_the_difference_of_table_9_agrees_where_its_counts_do_not(summaries):
    resnet, botnet = (find(summaries, name, "Table 9").madds / 1e9 for name in ("resnet50", "botnet50"))
    assert botnet - resnet == pytest.approx(3.79 - 3.86, abs=0.01)


def test_nothing_published_is_left_out(summaries):
    sources = {(row.name, row.source.split(",")[0]) for row in summaries if row.source}
    assert sources == {(name, source) for name, _, _, _, source in PAPER}


@pytest.mark.skipif(not PUBLISHED.exists(), reason="needs ../shared/reference/published.json")
def test_the_table_above_is_the_published_one():
    published = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    tables = {"table1_architecture": "Table 1", "table9_imagenet_regular": "Table 9", "figure5_scaling": "Figure 5"}
    rows = {
        (
            row.get("backbone") or row["model"],
            row.get("input") or published[table]["input"],
            row["params"],
            row["madds"],
            source,
        )
        for table, source in tables.items()
        for row in published[table]["rows"]
        if "madds" in row
    }
    rows |= {(name, 1024, None, madds, "footnote 10") for name, madds in published["footnote10_madds_1024"].items()}
    assert rows == set(PAPER)


def test_patterns_choose_and_unknown_names_are_refused():
    assert [summary.name for summary in summarize("senet_s[12]")] == ["senet_s1", "senet_s2"]
    assert {summary.name for summary in summarize("_c4")} == {"resnet50_nl_c4", "resnet50_bot_c4", "resnet50_bot_c4c5"}
    with pytest.raises(ValueError, match="botnet50"):
        summarize("bottnet50")


def test_tree_is_table_1():
    stages = tree("botnet50")
    assert [(stage.stage, stage.height, stage.width, stage.blocks) for stage in stages[:-1]] == [
        ("c1", 512, 512, 1),
        ("c2", 256, 256, 1),
        ("c2", 256, 256, 3),
        ("c3", 128, 128, 4),
        ("c4", 64, 64, 6),
        ("c5", 32, 32, 3),
    ]
    assert stages[4].layers == ("1x1, 256", "3x3, 256", "1x1, 1024")
    assert stages[5].layers == ("1x1, 512", "MHSA, 512, 4 heads", "1x1, 2048")


def test_tree_shows_inserted_blocks_and_any_size():
    c4 = [stage for stage in tree("resnet50_nl_c4", 225) if stage.stage == "c4"]
    assert [(stage.layers[0], stage.blocks, stage.height) for stage in c4] == [
        ("1x1, 256", 5, 15),
        ("non-local, 512", 1, 15),
        ("1x1, 256", 1, 15),
    ]


def test_summaries_go_to_json_and_to_a_terminal(summaries):
    rows = json.loads(json.dumps([dataclasses.asdict(row) for row in (*summaries, *tree("botnet_t3"))]))
    assert rows[0]["madds"] == summaries[0].madds
    out = StringIO()
    console = Console(file=out, width=120, markup=False)
    console.print(render_models(summaries), render_tree(tree("botnet_t3")))
    for text in ("102.99", "102.98", "footnote 10 [2]", "[2] Table 1 prints", "MHSA, 512, 4 heads", "14x14"):
        assert text in out.getvalue()
