"""Run a classifier over a data set: top-1, top-5, loss and calibration, and which classes are confused."""

import csv
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from botvision.data.loading import evaluation_loader
from botvision.errors import NotFiniteError, UserError, first_few, printable
from botvision.files import whole_file
from botvision.tasks.classification.analysis import analyse
from botvision.tasks.classification.checkpoint import TASK
from botvision.tasks.classification.confusion import confusion_matrix, most_confused, save_confusion
from botvision.tasks.classification.model import Classifier
from botvision.tasks.classification.report import SHARES, write_report
from botvision.tasks.evaluated import PAGE, evaluated, write_analysis, write_scores
from botvision.training.sharing import gather_or_raise, own_share
from botvision.training.trainable import Evaluation, OnImage

BINS = 15
"""Of the calibration error (Guo et al. 2017)."""
SKIPPED_SHARE = 0.01
"""Scores of a data set that lacks more of its images than this say little of it."""
SKIPPED_SHOWN = 20

Target = dict[str, Any]
RightLabels = Callable[[Target], Sequence[int]]
"""Gives the classes that are right for an image; none leave it out of the scores."""


def own_label(target: Target) -> list[int]:
    """The label that the data set gives an image."""
    return [target["label"]]


def evaluate_classifier(
    model: Classifier,
    dataset: Dataset,
    class_names: Sequence[str],
    *,
    batch_size: int,
    workers: int = 0,
    on_image: OnImage = lambda done, total: None,
    right_labels: RightLabels = own_label,
) -> Evaluation:
    """Classify every image and score the answers.

    Where several processes run it together, each takes its share of the images and all return the same.

    Args:
        model: on the device where it is to run; left in the mode that it was in.
        dataset: gives (uint8 image, or None where it cannot be read, {"label": int, "path": str}).
        class_names: of the model's classes, for people to read.
        batch_size: images at once.
        workers: processes that read images.
        right_labels: the right classes of an image; the data set's own label by default.

    Returns:
        The scores "top1", "top5", "loss" (cross-entropy, in nats; of several right classes, that of any of them),
        "ece" (expected calibration error), all but the loss between 0 and 1, "images" that were scored, "skipped",
        which could not be read, and "most_confused" (see ``confusion.most_confused``). The results are the rows of
        :func:`judge`, in order of paths.

    Raises:
        UserError: a label that is none of the model's, answers that are not finite, or too many unreadable images.
    """
    loader = evaluation_loader(own_share(dataset, batch_size), batch_size, workers)
    shares = gather_or_raise(lambda: classify_all(model, loader, on_image, right_labels))
    rows = sorted((row for share, _ in shares for row in share), key=lambda row: row["path"])
    skipped = [image for _, share in shares for image in share]
    check_skipped(skipped, len(dataset))  # type: ignore[arg-type]  # every data set here has a length
    if not rows:
        raise UserError("no image of the data set has a right label to score it by")
    confused = most_confused(confusion_matrix(rows, len(class_names)), class_names)
    scores = {**classification_scores(rows, len(skipped)), "most_confused": confused}
    columns = {f"val_{name}": scores[name] for name in ("top1", "top5", "loss")}
    text = f"top-1 {scores['top1']:.1%}, top-5 {scores['top5']:.1%}, loss {scores['loss']:.3f}"
    return Evaluation(scores, columns, scores["top1"], text, rows)


@torch.no_grad()
def classify_all(
    model: Classifier, loader: DataLoader, on_image: OnImage, right_labels: RightLabels
) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """The rows of :func:`judge` for all images of a loader; (path, reason) of those that could not be read."""
    was_training = model.training
    model.eval()
    rows: list[dict[str, Any]] = []
    skipped: list[tuple[str, str]] = []
    done, total = 0, len(loader.dataset)  # type: ignore[arg-type]
    try:
        for batch in loader:
            targets = batch["targets"]
            if targets:
                # In float64: probabilities that float32 rounds to 1 would all have a loss of 0.
                logits = model(batch["images"].to(model.pixel_mean.device)).cpu().double()
                rows += judge(logits, targets, right_labels)
            skipped += batch["skipped"]
            done += len(targets) + len(batch["skipped"])
            on_image(done, total)
    finally:
        model.train(was_training)
    return rows, skipped


def judge(logits: Tensor, targets: Sequence[Target], right_labels: RightLabels) -> list[dict[str, Any]]:
    """Compare the logits (B, K) of a batch with the right classes.

    Raises:
        NotFiniteError: logits that cannot be scored; their mean over a data set would be NaN, and say nothing.
        UserError: a label that is none of the model's.

    Returns:
        For each image that has a right class "path", "label" (of several right ones the predicted one, or else the
        first), "predicted" and its "probability", "loss", and whether a right class is the likeliest, "top1", or among
        the five likeliest, "top5".
    """
    classes = logits.shape[1]
    log_probabilities = logits.log_softmax(dim=1)
    ranks = log_probabilities.topk(min(5, classes), dim=1).indices.tolist()
    rows = []
    for own, (best, *others), target in zip(log_probabilities, ranks, targets, strict=True):
        if not own.isfinite().all():
            raise NotFiniteError(
                f"the network's answer to {target['path']} is not finite: the weights of this checkpoint have blown "
                "up, only an earlier one is of use"
            )
        right = list(right_labels(target))
        outside = [label for label in right if not 0 <= label < classes]
        if outside:
            raise UserError(f"{target['path']} has label {outside[0]}, the model's classes are 0 to {classes - 1}")
        if right:
            row = {"path": target["path"], "label": best if best in right else right[0], "predicted": best}
            row |= {"probability": float(own[best].exp()), "loss": -float(own[right].logsumexp(dim=0))}
            rows.append(row | {"top1": best in right, "top5": any(rank in right for rank in (best, *others))})
    return rows


def classification_scores(rows: Sequence[dict[str, Any]], skipped: int) -> dict[str, Any]:
    """The scores of the rows that :func:`judge` gives."""
    means = {name: math.fsum(row[name] for row in rows) / len(rows) for name in ("top1", "top5", "loss")}
    probabilities = torch.tensor([row["probability"] for row in rows], dtype=torch.float64)
    right = torch.tensor([row["top1"] for row in rows], dtype=torch.float64)
    return {**means, "ece": calibration_error(probabilities, right), "images": len(rows), "skipped": skipped}


def calibration_error(probabilities: Tensor, right: Tensor) -> float:
    """Expected calibration error: how far confidence and accuracy are apart, over 15 equal bins of confidence.

    It is the sum over the bins of |right - confidence|, each weighted by its share of the images (Guo et al. 2017,
    equation 3); a bin leaves out its lower edge and has its upper one.

    Args:
        probabilities: (N,) of the predicted classes.
        right: (N,) 1 where the prediction is right, else 0.
    """
    place = (probabilities * BINS).ceil().long().clamp(1, BINS) - 1
    gaps = torch.zeros(BINS, dtype=torch.float64).index_add_(0, place, (right - probabilities).double())
    return float(gaps.abs().sum()) / len(probabilities)


def check_skipped(skipped: Sequence[tuple[str, str]], images: int) -> None:
    """Raise a UserError if more images could not be read than one, and than 1 % of them."""
    if len(skipped) > max(1, SKIPPED_SHARE * images):
        paths = first_few([path for path, _ in skipped], SKIPPED_SHOWN)
        raise UserError(f"{len(skipped)} of {images} images cannot be read, more than 1 %; replace {paths}")


def write_results(folder: Path, evaluation: Evaluation, class_names: Sequence[str], **about: Any) -> None:  # noqa: ANN401
    """Write the files of an evaluation: ``predictions.csv``, ``confusion.png``, ``analysis.json``, ``report.html``, and
    ``metrics.json`` with what was evaluated (``about``) first.
    """
    with whole_file(folder / "predictions.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        columns = ["path", "label", "predicted", "probability", "label_name", "predicted_name"]
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        for row in evaluation.results:
            names = {f"{name}_name": class_names[row[name]] for name in ("label", "predicted")}
            writer.writerow(row | names | {"path": printable(row["path"])})
    matrix = confusion_matrix(evaluation.results, len(class_names))
    save_confusion(matrix, class_names, folder / "confusion.png")
    scores = {**about, **evaluation.scores}
    analysis = {"task": TASK, **analyse(evaluation.results, matrix, class_names, BINS)}
    write_analysis(folder, analysis)
    write_report(folder / PAGE, [evaluated(folder, scores, analysis)])
    write_scores(folder, scores)  # last: now the results are complete


def scores_table(scores: dict[str, Any]) -> Table:
    """The scores as a table, shares in percent."""
    table = Table(show_header=False)
    for name, title in SHARES.items():
        table.add_row(title, f"{100 * scores[name]:.2f}")
    table.add_row("loss", f"{scores['loss']:.4f}")
    table.add_row("images", str(scores["images"]))
    if scores["skipped"]:
        table.add_row("unreadable images", str(scores["skipped"]))
    return table
