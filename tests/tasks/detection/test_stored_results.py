"""Detections that wait on disk, and those of two processes that evaluate together."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from botvision.data import CocoDetection
from botvision.tasks.detection.checkpoint import load_detector
from botvision.tasks.detection.evaluate import evaluate_detector
from botvision.tasks.detection.stored_results import StoredResults
from botvision.tasks.detection.transforms import eval_transform

SCRIPT = Path(__file__).with_name("two_evaluations.py")
IDS = [7, "züri/1", 2**70]


def row(image_id, score: float) -> dict:
    return {"image_id": image_id, "category_id": 1, "bbox": [0.5, 1.25, 3.0, 4.0], "score": score}


@pytest.fixture
def stored() -> StoredResults:
    """Two images' detections, stored in another order than that of the data set, which has three."""
    results = StoredResults(IDS)
    results.append(IDS[2], [row(IDS[2], 0.9), row(IDS[2], 0.3)])
    results.append(IDS[1], [])
    results.append(IDS[0], [row(IDS[0], 0.5)])
    return results


def test_rows_come_back_in_the_order_of_the_data_set(stored):
    expected = [row(IDS[0], 0.5), row(IDS[2], 0.9), row(IDS[2], 0.3)]
    assert (list(stored), len(stored)) == (expected, 3)
    assert list(stored) == expected  # a second time
    assert [stored.of_image(image_id) for image_id in IDS] == [expected[:1], [], expected[1:]]
    stored.append(IDS[1], [row(IDS[1], 0.1)])  # after reading
    assert [found["image_id"] for found in stored] == [IDS[0], IDS[1], IDS[2], IDS[2]]


def test_the_written_file_is_a_json_list_of_all(stored, tmp_path):
    stored.write_json(tmp_path / "new" / "detections.json")
    assert json.loads((tmp_path / "new" / "detections.json").read_text(encoding="utf-8")) == list(stored)
    StoredResults(IDS).write_json(tmp_path / "none.json")
    assert json.loads((tmp_path / "none.json").read_text(encoding="utf-8")) == []


def test_nothing_stays_in_the_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    results = StoredResults([1])
    results.append(1, [row(1, 0.5)] * 1000)
    assert (list(tmp_path.iterdir()), len(list(results))) == ([], 1000)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.mark.slow
def test_two_processes_find_what_one_does_and_count_no_image_twice(finished_run, shapes, tmp_path):
    checkpoint, images = finished_run / "checkpoints" / "last.ckpt", 3
    environ = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    command = [sys.executable, str(SCRIPT), str(checkpoint), str(shapes), str(tmp_path)]
    children = [subprocess.Popen(command, env={**environ, "RANK": rank}) for rank in ("0", "1")]
    try:
        assert [child.wait(timeout=300) for child in children] == [0, 0]
    finally:
        for child in children:
            child.kill()
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    detector = load_detector(checkpoint, torch.device("cpu"))
    dataset = CocoDetection(shapes, "val", eval_transform(detector.model.config.input_size), limit=images)
    alone = evaluate_detector(detector.model, dataset, batch_size=1)
    assert (first["told"][-1], second["told"][-1]) == ([2, 2], [1, 1])
    assert first["results"] == list(alone.results)
    assert len({found["image_id"] for found in first["results"]}) == images
    assert {found["image_id"] for found in second["results"]} == {dataset.images[1].id}
    assert first["scores"] == second["scores"] == alone.scores
