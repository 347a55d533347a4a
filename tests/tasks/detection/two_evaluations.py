"""One of two processes that evaluate a detector together: CHECKPOINT DATA OUT."""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from botvision.data import CocoDetection
from botvision.tasks.detection import stored_results
from botvision.tasks.detection.checkpoint import load_detector
from botvision.tasks.detection.evaluate import evaluate_detector
from botvision.tasks.detection.transforms import eval_transform

IMAGES = 3

if __name__ == "__main__":
    torch.set_num_threads(1)
    stored_results.CHUNK = 1000  # bytes: so the second process sends many pieces
    checkpoint, data, out = map(Path, sys.argv[1:])
    dist.init_process_group("gloo")
    detector = load_detector(checkpoint, torch.device("cpu"))
    dataset = CocoDetection(data, "val", eval_transform(detector.model.config.input_size), limit=IMAGES)
    told: list[tuple[int, int]] = []
    evaluation = evaluate_detector(
        detector.model, dataset, batch_size=1, on_image=lambda done, total: told.append((done, total))
    )
    seen = {"scores": evaluation.scores, "results": list(evaluation.results), "told": told}
    (out / f"{dist.get_rank()}.json").write_text(json.dumps(seen))
    dist.destroy_process_group()
