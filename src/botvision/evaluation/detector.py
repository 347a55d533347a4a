"""Run a detector over a data set and score it on the original images."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import DataLoader

from botvision.data import CocoDetection
from botvision.data.loading import evaluation_loader
from botvision.detection import MaskRCNN
from botvision.detection.results import coco_results, in_original
from botvision.evaluation.coco import coco_scores
from botvision.evaluation.sharing import gather, own_share


def evaluate_detector(
    model: MaskRCNN,
    dataset: CocoDetection,
    *,
    batch_size: int,
    workers: int = 0,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Detect on every image and compute COCO's numbers.

    Where several processes run it together, each takes its share of the images and all return the same.

    Args:
        model: on the device where it is to run; left in the mode that it was in.
        dataset: with :func:`~botvision.data.eval_transform` as its transform.
        batch_size: images at once.
        workers: processes that read images.
        on_image: told how many images are done, of how many.

    Returns:
        The scores of :func:`~botvision.evaluation.coco.coco_scores`, and the detections in COCO's results format.
    """
    loader = evaluation_loader(own_share(dataset), batch_size, workers)
    results = gather(detect_all(model, dataset, loader, on_image))
    image_ids = [image.id for image in dataset.images]
    return coco_scores(dataset.annotation_file, results, image_ids, leave_out=dataset.dropped_ids), results


@torch.no_grad()
def detect_all(
    model: MaskRCNN, dataset: CocoDetection, loader: DataLoader, on_image: Callable[[int, int], None]
) -> list[dict[str, Any]]:
    """Detections of all images of a loader, in COCO's results format."""
    was_training = model.training
    model.eval()
    device = model.pixel_mean.device
    results: list[dict[str, Any]] = []
    done, total = 0, len(loader.dataset)  # type: ignore[arg-type]
    for batch in loader:
        targets = batch["targets"]
        detected = model(batch["images"].to(device), [target["content_size"] for target in targets])
        for found, target in zip(detected, targets, strict=True):
            original = in_original(found, target["content_size"], target["original_size"])
            results += coco_results(original, target["image_id"], dataset.categories)
        done += len(targets)
        on_image(done, total)
    model.train(was_training)
    return results
