"""`botvision bench step`, `pareto` and `growth` from end to end, on small images."""

import json

import pytest
from PIL import Image

from botvision.benchmarks import IMPLEMENTATIONS, inference, model_step, names
from botvision.experiments.speed import accuracies
from botvision.models import fold

SMALL = ("--batch", 2, "--repeats", 1, "--device", "cpu")


@pytest.fixture(autouse=True)
def small_product(monkeypatch):
    monkeypatch.setattr(model_step, "PRODUCT", {"cpu": 128})


def test_models_are_timed_and_drawn(run, tmp_path):
    file, models = tmp_path / "step.json", ("resnet50", "efficientnet_b[0]", "deit_tiny*")
    status, out, _ = run("bench", "step", "--models", *models, "--size", 96, *SMALL, "--json", "--out", file)
    assert status == 0
    report = json.loads(out)
    assert report == json.loads(file.read_text())
    assert [row["model"] for row in report["rows"]] == ["resnet50", "efficientnet_b0", "deit_tiny_patch16_224"]
    for row in report["rows"]:
        assert (row["size"], row["batch"], row["note"]) == (96, 2, "")
        assert 0 < row["least_ms"] <= row["ms"] <= row["most_ms"]
        assert row["multiply_adds"] > 1e6
        assert row["of_peak"] > 0
    report["rows"][0]["size"] = 224  # its own
    file.write_text(json.dumps(report))
    status, out, _ = run("bench", "pareto", "--times", file, "--out", tmp_path, "--json")
    assert status == 0
    points = {point["model"]: point for point in json.loads(out)["points"]}
    assert points.keys() == accuracies().keys()
    assert points["resnet50"]["ms_per_image"] == report["rows"][0]["ms"] / 2
    assert points["resnet50"]["on_front"]
    assert points["efficientnet_b7"]["ms_per_image"] is None
    with Image.open(tmp_path / "pareto.png") as picture:
        picture.load()
    status, out, _ = run("bench", "pareto", "--times", file)
    assert status == 0
    assert out.count("not measured") >= len(accuracies()) - 1


def test_where_the_time_of_a_step_goes_is_printed(run):
    status, out, _ = run("bench", "step", "--models", "resnet50", "--size", 64, *SMALL, "--profiled", "--json")
    assert status == 0
    ((title, operators),) = json.loads(out).items()
    assert title.startswith("resnet50 at 64, batch 2")
    assert any("convolution_backward" in one["name"] for one in operators)
    assert 0.5 < sum(one["share"] for one in operators) <= 1


def test_a_prediction_in_bfloat16_says_what_was_not_measured(run):
    status, out, _ = run(
        "bench", "step", "--models", "resnet50", "--size", 64, *SMALL, "--inference", "--dtype", "bfloat16"
    )
    assert status == 0
    assert "inference, bfloat16" in out
    assert "1.31" in out  # Table 1 of the paper
    assert "not measured" in out


def test_costs_grow_with_slopes(run, tmp_path):
    sizes = ("--models", "resnet50", "--sizes", 64, 128, "--maps", 6, 12)
    status, out, _ = run("bench", "growth", *sizes, *SMALL, "--json", "--out", tmp_path)
    assert status == 0
    costs = {(cost["subject"], cost["cost"]): cost for cost in json.loads(out)["costs"]}
    assert costs["resnet50", "training (ms)"]["batches"] == [2, 2]
    assert costs["resnet50", "training (ms)"]["expected"] == pytest.approx(1.0, abs=0.01)  # all convolutions
    for cost in costs.values():
        assert len(cost["values"]) == 2
        assert cost["slope"] is not None or None in cost["values"]
    with Image.open(tmp_path / "growth.png") as picture:
        picture.load()
    assert json.loads((tmp_path / "growth.json").read_text()) == json.loads(out)


def test_bad_input_is_refused_in_one_line(refusal):
    assert "botnet50" in refusal("bench", "step", "--models", "botnet5")
    assert "--size" in refusal("bench", "step", "--size", 8)
    assert "multiple of 16" in refusal("bench", "step", "--models", "deit_*", "--size", 100)
    assert "--sizes" in refusal("bench", "growth", "--sizes", 64, 8)
    assert "bfloat16" in refusal("bench", "step", "--dtype", "float16")
    assert "--times" in refusal("bench", "pareto", "--times", "step.json", "--batch", 2)


def test_a_place_that_cannot_take_the_result_is_refused_before_anything_is_measured(refusal, tmp_path):
    assert "--out" in refusal("bench", "step", "--out", tmp_path)
    assert "--profiled" in refusal("bench", "step", "--out", tmp_path / "step.json", "--profiled")
    for picture in (tmp_path, tmp_path / "data.xyz"):
        assert "--out" in refusal("bench", "data", "--out", picture)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    for command in ("attention", "pareto", "growth"):
        assert "--out" in refusal("bench", command, "--out", tmp_path / "file")


def test_files_that_do_not_go_together_are_refused(run, refusal, tmp_path):
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    run("bench", "step", "--models", "resnet50", "--size", 64, *SMALL, "--inference", "--out", first)
    report = json.loads(first.read_text())
    report["conditions"]["threads"] += 1
    second.write_text(json.dumps(report))
    line = refusal("bench", "pareto", "--times", first, second, "--out", tmp_path / "out")
    assert "second.json" in line
    assert "threads" in line
    report["conditions"]["threads"] -= 1
    report["peak_gflops"] *= 2  # as of a faster processor of the same name
    second.write_text(json.dumps(report))
    assert "another machine" in refusal("bench", "pareto", "--times", first, second, "--out", tmp_path / "out")
    second.write_text('{"rows": 3}')
    assert "second.json" in refusal("bench", "pareto", "--times", second)
    assert not (tmp_path / "out").exists()


def test_ways_to_predict_are_timed_beside_timms_and_give_the_same(run, monkeypatch):
    monkeypatch.setattr(inference.torch, "compile", lambda model, **options: model)  # which takes a minute
    monkeypatch.setattr(inference, "in_onnxruntime", lambda network, device: fold(network))
    status, out, _ = run("bench", "inference", "--size", 64, "--repeats", 2, "--device", "cpu", "--json")
    assert status == 0
    rows = {(row["model"], row["way"]): row for row in json.loads(out)}
    assert rows.keys() == {(m, w) for m in ("resnet50", "botnet50") for w in inference.WAYS}
    assert all(0 < row["least_ms"] <= row["ms"] <= row["most_ms"] for row in rows.values())
    assert rows["botnet50", "timm"]["of_peer"] == 1
    assert 0 < rows["botnet50", "folded"]["difference"] < 1e-4
    assert rows["botnet50", "ours"]["difference"] == 0


def test_the_names_of_the_command_line_are_those_of_the_benchmarks():
    assert (tuple(IMPLEMENTATIONS), tuple(inference.PEERS)) == (names.WAYS, names.WITH_PEERS)


def test_predicting_at_a_size_or_by_a_model_that_timm_has_not_is_refused(refusal):
    assert "multiple of 32" in refusal("bench", "inference", "--size", 100)
    assert "--models" in refusal("bench", "inference", "--models", "botnet101")
