"""`botvision report`: one page of one run or several, from the files that evaluations left."""

import json
import re
import shutil

import pytest


@pytest.fixture
def evaluated(finished_run, tmp_path):
    """A copy of a finished run, to damage."""
    return shutil.copytree(finished_run, tmp_path / "mine")


def test_a_training_leaves_the_page_of_its_last_evaluation(finished_run):
    page = (finished_run / "eval" / "report.html").read_text(encoding="utf-8")
    assert "experiment small/botnet50, step 4, 6 classes" in page
    assert "scores of the evaluations" in page


def test_the_page_of_a_run_can_be_made_again(run, evaluated):
    status, out, err = run("report", evaluated)
    assert (status, out) == (0, "")
    assert f"written to {evaluated / 'report.html'}" in err
    again = (evaluated / "report.html").read_text(encoding="utf-8")
    left = (evaluated / "eval" / "report.html").read_text(encoding="utf-8")
    assert again == left.replace("<title>run</title>", "<title>mine</title>").replace("<h1>run</h1>", "<h1>mine</h1>")


def test_eval_writes_a_page_beside_its_scores(run, evaluated, shapes, open_page):
    assert run("eval", evaluated, "--data", shapes, "--device", "cpu")[0] == 0
    folder = evaluated / "eval" / "val"
    scores = json.loads((folder / "metrics.json").read_text())
    page = open_page(folder / "report.html")
    assert (page.console, page.requests) == ([], [])
    assert page.html.count("<title>mine/eval/val</title>") == 1
    for kind in ("box", "mask"):
        assert f"{kind} AP (%) {100 * scores[kind]['ap']:.1f}" in page.words
    assert f"AR100 {100 * scores['box']['ar100']:.1f} {100 * scores['mask']['ar100']:.1f}" in page.words
    _, _, err = run("report", evaluated)  # which is about the training's evaluation
    assert str(folder) in err


def test_several_runs_stand_beside_each_other(run, evaluated, finished_run, tmp_path, open_page):
    metrics = evaluated / "eval" / "metrics.json"
    scores = json.loads(metrics.read_text())
    scores["box"]["ap"], scores["mask"]["ap_large"] = 0.4321, None
    metrics.write_text(json.dumps(scores))
    out = tmp_path / "new" / "both.html"
    assert run("report", evaluated, finished_run, evaluated / "eval", "--out", out)[0] == 0
    page = open_page(out)
    assert (page.console, page.requests) == ([], [])
    assert "<title>3 runs</title>" in page.html
    other = json.loads((finished_run / "eval" / "metrics.json").read_text())["box"]["ap"]
    # The same run twice: by its paths.
    header = f"% {evaluated}: box run: box {evaluated / 'eval'}: box"
    assert header in page.words
    row = re.search(r" AP ([\d.]+) ([\d.]+) ([\d.]+) ", page.words)
    assert row is not None
    assert row.groups() == ("43.2", f"{100 * other:.1f}", "43.2")


def test_what_cannot_be_shown_is_refused_in_one_line(refusal, evaluated, tmp_path):
    for wrong in (tmp_path / "nowhere", tmp_path):
        line = refusal("report", wrong)
        assert str(wrong) in line
        assert "botvision eval" in line
    analysis = evaluated / "eval" / "analysis.json"
    kept = analysis.read_text()
    for content in ("{", "[]", '"', "{}"):
        analysis.write_text(content)
        assert str(analysis) in refusal("report", evaluated)
    analysis.write_text(kept.replace('"detection"', '"cooking"', 1))
    assert "'cooking'" in refusal("report", evaluated)
    analysis.write_text(kept.replace('"errors"', '"mistakes"', 1))
    assert str(evaluated) in refusal("report", evaluated)
    analysis.write_text(kept)
    (evaluated / "metrics.csv").write_text("step,loss\n1\nx,y\n")
    assert str(evaluated / "metrics.csv") in refusal("report", evaluated)
    (evaluated / "metrics.csv").unlink()
    assert not (evaluated / "report.html").exists()
    analysis.unlink()
    assert str(analysis) in refusal("report", evaluated)
