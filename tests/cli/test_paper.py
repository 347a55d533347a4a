"""`botvision paper`: the tables, and which runs count as measurements of their rows."""

import json
import logging
from urllib.error import URLError

import pytest
import yaml
from torchvision.models._api import WeightsEnum

from botvision.experiments import EXPERIMENTS, find_experiment
from botvision.experiments.paper import TABLES
from botvision.training.run_folder import write_config

COCO_STEPS = {36: 66_537, 72: 133_073}
"""118 287 images in batches of 64."""


@pytest.fixture
def write_run(tmp_path):
    """Writes the folder of an evaluated run as the loop writes it: an experiment with some fields of "run" changed."""

    def write(name, step, scores, folder=None, **changes):
        path = tmp_path / "runs" / (folder or name.replace("/", "-"))
        entry = find_experiment(name)
        config = entry.config.replace(run=entry.config.run.replace(**changes))
        write_config(path, name, entry.task, config)
        (path / "eval").mkdir(parents=True)
        (path / "eval" / "metrics.json").write_text(json.dumps({"step": step, **scores}))
        return str(path)

    return write


@pytest.fixture
def rows(run, tmp_path):
    """The rows that `botvision paper` prints as JSON, by their names; of tables without costs, which take seconds."""

    def read(*tables):
        (tmp_path / "runs").mkdir(exist_ok=True)
        found = {}
        for table in tables or ("table2", "table3", "table4", "table5", "table6", "table7", "table8"):
            status, out, err = run("paper", table, "--runs", tmp_path / "runs", "--json")
            assert (status, err) == (0, "")
            found |= {row["row"]: row for row in json.loads(out)[0]["rows"]}
        return found

    return read


def ap(box, mask):
    return {"box": {"ap": box, "ap50": 0.6}, "mask": {"ap": mask, "ap50": 0.5}, "classes": {}}


def test_every_row_is_printed_with_its_figures_and_a_command_that_gives_its_settings(run, rows):
    tables = [table for table in TABLES if table != "figure5"]  # to count its large models takes long
    printed = rows(*tables)
    assert printed.keys() == {f"{key}/{name}" for key in tables for name in TABLES[key].rows}
    assert len(printed) == 2 + 8 + 6 + 5 + 6 + 6 + 5 + 2 + 3 + 3
    assert all(row["published"] for row in printed.values())
    assert {name for name, row in printed.items() if row["command"] == f"botvision train {name} --data DIR"} == {
        name for name in EXPERIMENTS if name.partition("/")[0] in tables
    }
    for name in ("table1/botnet50", "table4/botnet50_qr_relative", "table8/botnet200", "table10/botnet50_s1"):
        words = printed[name]["command"].replace("DIR", "/data/coco").split()[1:]
        status, out, _ = run(*words, *(["--print-config"] if name in EXPERIMENTS else []))
        assert status == 0
        if name in EXPERIMENTS:
            expected = find_experiment(name).config.plain()
            expected["data"]["data"] = "/data/coco"
            assert yaml.safe_load(out) == {"experiment": name, "task": EXPERIMENTS[name].task, **expected}


def test_costs_are_counted_and_the_rest_is_not_run(rows):
    row = rows("table1")["table1/botnet50"]
    assert row["measured"] == pytest.approx({"params": 20.85, "madds": 102.99}, rel=1e-3)
    assert row["not_run"] == ["tpu_step_ms"]
    row = rows("table9")["table9/botnet50"]
    assert row["measured"].keys() == {"params", "madds"}
    assert row["not_run"] == ["top1"]
    assert all(not row["measured"] for row in rows("table5").values())


def test_a_finished_run_counts_for_every_row_with_its_settings(rows, write_run):
    folder = write_run("table5/botnet50", COCO_STEPS[36], ap(0.43, 0.38), out="elsewhere", device="cuda")
    same = ("table2/botnet50_3x", "table4/botnet50_qk_qr_relative", "table5/botnet50", "table7/botnet50")
    printed = rows()
    measured = {name: row for name, row in printed.items() if row["runs"]}
    assert measured.keys() == set(same)
    for row in measured.values():
        assert row["measured"] == pytest.approx({"box_ap": 43, "mask_ap": 38})
        assert (row["not_run"], row["runs"]) == ([], [folder])
    assert all(not row["other_runs"] for row in printed.values())


def test_of_several_runs_the_mean_counts(rows, write_run, run, tmp_path):
    for seed, top1 in enumerate((0.770, 0.772)):
        changes = {"seed": seed, "images_per_device": 64}
        write_run("table10/botnet50", 62_557, {"top1": top1, "top5": 0.9}, folder=f"seed-{seed}", **changes)
    row = rows("table10")["table10/botnet50"]
    assert row["measured"]["top1"] == pytest.approx(77.1)
    assert len(row["runs"]) == 2
    assert "77.1" in run("paper", "table10", "--runs", tmp_path / "runs")[1]


@pytest.mark.parametrize(
    ("step", "changes", "named"),
    [
        (100, {"steps": 100}, "--steps"),
        (COCO_STEPS[36], {"precision": "float32", "batch_size": 32}, "--batch-size"),
        (COCO_STEPS[36], {"weights": None}, "--weights"),
        (COCO_STEPS[36], {"images_per_device": 2}, "--images-per-device"),  # of one batch norm
        (40_000, {}, "40,000"),  # unfinished, or of another number of images
    ],
)
def test_a_run_that_differs_is_shown_with_the_difference_and_does_not_count(
    run, rows, write_run, tmp_path, step, changes, named
):
    folder = write_run("table5/botnet50", step, ap(0.123, 0.1), **changes)
    printed = rows()
    assert all(not row["runs"] and not {"box_ap", "mask_ap"} & row["measured"].keys() for row in printed.values())
    (other,) = printed["table5/botnet50"]["other_runs"]
    assert (other["folder"], sorted(other["changed"])) == (folder, sorted(changes))
    assert other["figures"]["box_ap"] == pytest.approx(12.3)
    for form in ([], ["--markdown"]):
        lines = run("paper", "table5", "--runs", folder, *form)[1].splitlines()
        (line,) = [line for line in lines if folder in line]
        assert named in line
        assert "12.3" in line


def test_weights_from_elsewhere_count(rows, write_run):
    write_run("table5/botnet101", COCO_STEPS[36], ap(0.4, 0.3), weights="resnet101.pth")
    assert rows("table5")["table5/botnet101"]["runs"]


def test_a_run_without_an_evaluation_or_of_another_experiment_is_left_out(rows, write_run, tmp_path):
    write_run("small/botnet50", 500, ap(0.4, 0.3))
    write_config(
        tmp_path / "runs" / "started", "table5/resnet50", "detection", find_experiment("table5/resnet50").config
    )
    assert all(not row["runs"] and not row["other_runs"] for row in rows().values())


@pytest.mark.parametrize("name", ["small/detr_botnet50", "small/keypoint_botnet50", "imagenet/botnet50"])
def test_a_run_of_another_kind_counts_for_no_row(rows, write_run, name):
    write_run(name, 500, ap(0.43, 0.38))
    assert all(not row["runs"] and not row["other_runs"] for row in rows("table4").values())


@pytest.mark.parametrize("file", ["config.yaml", "eval/metrics.json"])
@pytest.mark.parametrize("content", ["{", "[]", "experiment: a\ntask: b\n"])
def test_a_damaged_run_is_named_and_the_others_count(run, write_run, tmp_path, caplog, file, content):
    write_run("table5/botnet50", COCO_STEPS[36], ap(0.43, 0.38))
    folder = write_run("table5/resnet50", COCO_STEPS[36], ap(0.43, 0.38))
    (tmp_path / "runs" / "table5-resnet50" / file).write_text(content)
    with caplog.at_level(logging.WARNING, logger="botvision"):
        status, out, _ = run("paper", "table5", "--runs", tmp_path / "runs", "--json")
    assert status == 0
    assert [bool(row["runs"]) for row in json.loads(out)[0]["rows"]] == [False, True, False, False, False, False]
    (record,) = caplog.records
    assert f"{folder}/{file}" in record.getMessage()


def test_markdown_is_a_table_of_five_columns_in_whole_lines(run):
    lines = run("paper", "table4", "--markdown")[1].splitlines()
    assert "Table 4" in lines[0]
    cells = [line.split("|")[1:-1] for line in lines if line.startswith("|")]
    assert {len(row) for row in cells} == {5}
    assert len(cells) == 2 + 5


def test_a_row_whose_weights_cannot_be_downloaded_names_the_flag_and_writes_nothing(
    refusal, shapes, tmp_path, monkeypatch
):
    def refuse(*args, **kwargs):
        raise URLError("no network")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(WeightsEnum, "get_state_dict", refuse)
    small = "--width 8 --depths 1 1 1 1 --input-size 64 --device cpu --workers 0 --steps 1"
    line = refusal("train", "table5/botnet101", "--data", shapes, *small.split())
    for named in ("--weights", "resnet101.IMAGENET1K_V1", "no network", "none"):
        assert named in line
    assert list(tmp_path.iterdir()) == []


def test_help_of_a_row_says_what_to_expect(run):
    status, out, _ = run("train", "table5/botnet50", "--help")
    text = " ".join(out.split())
    assert status == 0
    for figure in ("Table 5", "43.6", "38.9", "102.99 G", "1032.66 ms", "66,537 steps"):
        assert figure in text


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("paper", "table44"), "table4"),
        (("paper", "--runs", "nowhere"), "nowhere"),
        (("paper", "--json", "--markdown"), "--markdown"),
        (("train", "table4"), "botvision paper table4"),
        (("train", "table1/resnet50"), "botvision paper table1"),
        (("train", "table5/botnet50", "--backbone-norm", "frozen", "--weights", "none"), "--backbone-norm"),
        (("train", "table5/botnet50", "--attention", "qkv"), "--attention"),
    ],
)
def test_what_is_not_there_is_refused_in_one_line(refusal, words, named):
    assert named in refusal(*words)
