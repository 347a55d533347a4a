"""How long COCO's numbers of made-up detections take beside other implementations, and if they agree."""

import contextlib
import importlib
import io
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from botvision.data import Category, ImageRecord
from botvision.data.annotations import Instance
from botvision.data.masks import mask_area, run_lengths
from botvision.tasks.detection.coco import coco_scores, metrics
from botvision.tasks.detection.stored_results import StoredResults
from botvision.tasks.detection.truth import FIELDS, KINDS

HEIGHT, WIDTH, CLASSES, MOST_OBJECTS = 480, 640, 80, 14
DETECTIONS = 100
"""Of each image."""
CORNERS = 16
"""Of the outline of a mask."""
PEERS = {"pycocotools": ("pycocotools.coco", "COCO", "pycocotools.cocoeval", "COCOeval")}
PEERS |= {"hotcoco": ("hotcoco", "COCO", "hotcoco", "COCOeval")}  # alone: without what botvision does around it
PEERS |= {"faster-coco-eval": ("faster_coco_eval", "COCO", "faster_coco_eval", "COCOeval_faster")}
"""The distribution of a peer, and where its data set and its metric are."""


@dataclass(frozen=True)
class Timing:
    """COCO's 12 numbers by one implementation."""

    kind: str
    name: str
    seconds: float
    """Median, from annotations and results in memory (of botvision: on disk) to the numbers."""
    numbers: list[float | None]


class MadeUpData:
    """Images without pixels, objects of random places and classes, and detections near them or anywhere.

    Attributes:
        images, categories, instances: as of :class:`~botvision.data.CocoDetection`.
        content: the same as an annotation file.
        results: detections in COCO's results format, :data:`DETECTIONS` of each image.
    """

    def __init__(self, images: int, seed: int = 0) -> None:
        self.categories = [Category(label, str(label)) for label in range(1, CLASSES + 1)]
        self.images = [ImageRecord(number, Path(f"{number}.jpg"), HEIGHT, WIDTH) for number in range(1, images + 1)]
        self._instances: list[list[Instance]] = []
        self.results: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for image in self.images:
            rng = np.random.default_rng([seed, int(image.id)])
            boxes, labels = made_up_objects(rng)
            outlines = [[outline(box)] for box in boxes]
            corners = [(x, y, x + width, y + height) for x, y, width, height in boxes.tolist()]
            self._instances.append([Instance(*of) for of in zip(labels.tolist(), corners, outlines, strict=True)])
            for box, label, polygons in zip(boxes.tolist(), labels.tolist(), outlines, strict=True):
                number, area = len(annotations) + 1, mask_area(polygons, HEIGHT, WIDTH)
                about = {"id": number, "image_id": image.id, "category_id": label, "iscrowd": 0}
                annotations.append({**about, "bbox": box, "segmentation": polygons, "area": area})
            self.results += [{"image_id": image.id, **row} for row in made_up_results(rng, boxes, labels)]
        sizes = [{"id": image.id, "height": HEIGHT, "width": WIDTH} for image in self.images]
        classes = [{"id": category.id, "name": category.name} for category in self.categories]
        self.content = {"images": sizes, "categories": classes, "annotations": annotations}

    def instances(self, index: int) -> list[Instance]:
        """The objects of an image."""
        return self._instances[index]


def made_up_objects(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (N, 4) as x, y, width and height in pixels, of 12 to 300 pixels a side, and labels (N,)."""
    count = rng.integers(1, MOST_OBJECTS + 1)
    sides = np.exp(rng.uniform(np.log(12), np.log(300), (count, 2)))
    corners = rng.random((count, 2)) * (np.array([WIDTH, HEIGHT]) - sides)
    return np.concatenate([corners, sides], axis=1).round(2), rng.integers(1, CLASSES + 1, count)


def made_up_results(rng: np.random.Generator, boxes: np.ndarray, labels: np.ndarray) -> list[dict[str, Any]]:
    """Seven of ten detections lie near an object, most of them of its class; strongest first."""
    of = rng.integers(0, len(boxes), DETECTIONS)
    near = rng.random(DETECTIONS) < 0.7
    found = boxes[of] * (1 + rng.normal(0, 0.1, (DETECTIONS, 4)))
    elsewhere = boxes[of] + rng.normal(0, 80, (DETECTIONS, 4))
    found = np.where(near[:, None], found, elsewhere)
    found[:, :2] = found[:, :2].clip(0, [WIDTH - 5, HEIGHT - 5])
    found[:, 2:] = found[:, 2:].clip(4, [WIDTH, HEIGHT] - found[:, :2])
    right = near & (rng.random(DETECTIONS) < 0.8)
    classes = np.where(right, labels[of], rng.integers(1, CLASSES + 1, DETECTIONS))
    scores = np.sort(rng.random(DETECTIONS).round(6))[::-1]
    rows = zip(found.round(2).tolist(), classes.tolist(), scores.tolist(), strict=True)
    return [{"category_id": c, "bbox": box, "score": s, "segmentation": ellipse(box)} for box, c, s in rows]


def outline(box: Any) -> list[float]:  # noqa: ANN401 (four numbers)
    """A polygon inside a box: x and y of each corner, in pixels."""
    x, y, width, height = box
    angles = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    points = [x + width / 2 * (1 + np.cos(angles)), y + height / 2 * (1 + np.sin(angles))]
    return np.stack(points, axis=1).round(2).ravel().tolist()


def ellipse(box: list[float]) -> dict[str, Any]:
    """The mask inside a box, as run lengths."""
    runs = run_lengths([outline(box)], HEIGHT, WIDTH)
    return {"size": runs["size"], "counts": runs["counts"].decode()}


def bench_evaluation(data: MadeUpData, repeats: int) -> list[Timing]:
    """Time the implementations that are installed; they take turns, so that a busy moment meets all of them."""
    stored = StoredResults([image.id for image in data.images])
    for index, image in enumerate(data.images):
        stored.append(image.id, data.results[DETECTIONS * index : DETECTIONS * (index + 1)])
    found = []
    for kind in ("box", "mask"):
        runs: dict[str, Callable[[], list[float | None]]] = {"botvision": partial(_ours, data, stored, kind)}
        runs |= {name: partial(_peer, name, data, kind) for name in PEERS if find_spec(name.replace("-", "_"))}
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        numbers = {}
        for _ in range(repeats):
            for name, run in runs.items():
                started = time.perf_counter()
                numbers[name] = run()
                seconds[name].append(time.perf_counter() - started)
        found += [Timing(kind, name, statistics.median(seconds[name]), numbers[name]) for name in runs]
    return found


def _ours(data: MadeUpData, stored: StoredResults, kind: str) -> list[float | None]:
    """What an evaluation does after the detector."""
    scores: Mapping[str, float | None] = coco_scores(data, stored, [kind], detections=DETECTIONS)[kind]  # type: ignore[arg-type]
    return [scores[name] for name in metrics(DETECTIONS)]


def _peer(name: str, data: MadeUpData, kind: str) -> list[float | None]:
    """What the peer's own documentation shows, without reading files."""
    dataset_module, dataset_name, metric_module, metric_name = PEERS[name]
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        truth = getattr(importlib.import_module(dataset_module), dataset_name)()
        truth.dataset = data.content
        truth.createIndex()
        left_out = set(FIELDS.values()) - {FIELDS[kind]}
        rows = [{field: row[field] for field in row if field not in left_out} for row in data.results]
        metric = getattr(importlib.import_module(metric_module), metric_name)(truth, truth.loadRes(rows), KINDS[kind])
        metric.evaluate()
        metric.accumulate()
        metric.summarize()
    return [None if value < 0 else float(value) for value in metric.stats[: len(metrics(DETECTIONS))]]


def timing_table(found: list[Timing]) -> Table:
    """Seconds, how many times faster than pycocotools, and the largest difference from its numbers."""
    table = Table("kind", "implementation", "seconds", "x pycocotools", "AP (%)", "largest difference")
    reference = {one.kind: one for one in found if one.name == "pycocotools"}
    for one in found:
        other = reference.get(one.kind)
        times = f"{other.seconds / one.seconds:.1f}" if other else "-"
        apart = f"{difference(one.numbers, other.numbers):.1e}" if other else "-"
        table.add_row(one.kind, one.name, f"{one.seconds:.2f}", times, f"{100 * (one.numbers[0] or 0):.3f}", apart)
    return table


def difference(numbers: list[float | None], others: list[float | None]) -> float:
    """The largest difference between two lists of scores; infinite where only one has a number."""
    pairs = zip(numbers, others, strict=True)
    return max(abs(a - b) if a is not None and b is not None else 0.0 if a == b else float("inf") for a, b in pairs)
