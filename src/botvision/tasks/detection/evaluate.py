"""Run a detector over a data set and score it on the original images."""

import logging
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from botvision.data import CocoDetection
from botvision.data.loading import evaluation_loader
from botvision.errors import printable
from botvision.pages import jpeg
from botvision.tasks.detection.analysis import analyse
from botvision.tasks.detection.checkpoint import TASK
from botvision.tasks.detection.coco import summaries
from botvision.tasks.detection.detector import Detector
from botvision.tasks.detection.predict import beside_truth
from botvision.tasks.detection.report import write_report
from botvision.tasks.detection.results import coco_results, in_original
from botvision.tasks.detection.stored_results import StoredResults
from botvision.tasks.detection.truth import CocoTruth
from botvision.tasks.evaluated import PAGE, evaluated, write_analysis, write_scores
from botvision.training.sharing import gather_or_raise, on_first_process, own_share
from botvision.training.trainable import Evaluation, OnImage

logger = logging.getLogger("botvision")

PICTURE_SIDE = 1200
"""The most pixels a side of the pictures in a page."""


def evaluate_detector(
    model: Detector,
    dataset: CocoDetection,
    *,
    batch_size: int,
    workers: int = 0,
    on_image: OnImage = lambda done, total: None,
) -> Evaluation:
    """Detect on every image and compute COCO's numbers.

    Where several processes run it together, each takes its share of the images. All return the same scores; the first
    one alone has all the results, the others their own.

    Args:
        model: on the device where it is to run; left in the mode that it was in.
        dataset: with :func:`~botvision.tasks.detection.transforms.eval_transform` as its transform.
        batch_size: images at once.
        workers: processes that read images.
        on_image: told how many images are done, of how many.

    Returns:
        The scores of :func:`~botvision.tasks.detection.coco.coco_scores`, of all that the detector predicts, with the
        detections as :class:`StoredResults`; no scores of a data set without annotations. The AP of the last thing that
        it predicts and that can be measured decides which checkpoint is best.
    """
    loader = evaluation_loader(own_share(dataset, batch_size), batch_size, workers)
    results = StoredResults([image.id for image in dataset.images])
    gather_or_raise(lambda: detect_all(model, dataset, loader, on_image, results))
    results.gather()
    scores, analysis = on_first_process(lambda: score(model, dataset, results))
    found = {kind: scores.get(kind, {}) for kind in model.predicts}
    columns = {f"val_{kind}_{name}": found[kind].get(name) for kind in found for name in ("ap", "ap50")}
    words = [f"{kind} AP {decimals(own.get('ap'))} (AP50 {decimals(own.get('ap50'))})" for kind, own in found.items()]
    measured = [own["ap"] for own in found.values() if own.get("ap") is not None]
    best = measured[-1] if measured else float("-inf")
    return Evaluation(scores, columns, best, ", ".join(words), results, analysis)


def score(model: Detector, dataset: CocoDetection, results: StoredResults) -> tuple[dict[str, Any], dict[str, Any]]:
    """The scores of all that a detector predicts, and their analysis; none of a data set without annotations."""
    if not dataset.annotated:
        logger.warning("%s: has no 'annotations': detections are written, but not scored", dataset.annotation_file)
        return {}, {}
    truth, most = CocoTruth(dataset), model.config.detections
    evaluations = {kind: truth.match(results, kind, detections=most) for kind in model.predicts}
    return summaries(evaluations, dataset.categories), analyse(truth, evaluations, results, dataset)


def decimals(share: float | None) -> str:
    """A share with three decimals, or a dash where there was nothing to measure."""
    return "-" if share is None else f"{share:.3f}"


@torch.no_grad()
def detect_all(
    model: Detector, dataset: CocoDetection, loader: DataLoader, on_image: OnImage, results: StoredResults
) -> None:
    """Store the detections of all images of a loader, batch after batch."""
    was_training = model.training
    model.eval()
    device = model.pixel_mean.device
    done, total = 0, len(loader.dataset)  # type: ignore[arg-type]
    for batch in loader:
        targets = batch["targets"]
        detected = model(batch["images"].to(device), [target["content_size"] for target in targets])
        for found, target in zip(detected, targets, strict=True):
            image_id, size = target["image_id"], target["original_size"]
            original = in_original(found, target["content_size"], size)
            results.append(image_id, coco_results(original, image_id, dataset.categories, size))
        done += len(targets)
        on_image(done, total)
    model.train(was_training)


def write_results(folder: Path, dataset: CocoDetection, evaluation: Evaluation, **about: Any) -> None:  # noqa: ANN401
    """Write the files of an evaluation: ``detections.json``, ``analysis.json``, ``report.html``, ``metrics.json``.

    Args:
        folder: where to.
        dataset: what was evaluated on; its images are drawn.
        evaluation: of :func:`evaluate_detector`.
        about: what was evaluated; ``metrics.json`` starts with it.
    """
    scores, analysis = {**about, **evaluation.scores}, evaluation.analysis
    evaluation.results.write_json(folder / "detections.json")
    worst = [{**one, **drawn(one["image"], dataset, evaluation)} for one in analysis.get("worst", [])]
    analysis = {"task": TASK, **analysis, "worst": worst}
    write_analysis(folder, analysis)
    write_report(folder / PAGE, [evaluated(folder, scores, analysis)])
    write_scores(folder, scores)  # last: now the results are complete


def drawn(index: int, dataset: CocoDetection, evaluation: Evaluation) -> dict[str, str]:
    """The file of an image, and the "picture" of what was found beside the truth, for a page."""
    record, threshold = dataset.images[index], evaluation.analysis["threshold"]
    sheet = beside_truth(evaluation.results.of_image(record.id), dataset, index, threshold)
    return {"file": printable(record.path.name), "picture": jpeg(sheet, PICTURE_SIDE)}
