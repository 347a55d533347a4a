"""Training a classifier: a network of the catalogue on folders or shards of images."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms.v2 import CutMix, MixUp, RandomChoice

from botvision.classification import Classifier
from botvision.classification.checkpoint import describe
from botvision.classification.classifier import STAGES
from botvision.classification.config import Freeze
from botvision.data import check_same_classes, eval_crop, open_classes, train_augmentation
from botvision.data.loading import Batch
from botvision.errors import UserError
from botvision.evaluation import evaluate_classifier
from botvision.evaluation.classifier import write_classification
from botvision.models import LoadReport, load_weights
from botvision.training.config import ClassificationData, ClassificationExperiment
from botvision.training.schedule import cosine_schedule
from botvision.training.settings import total_steps
from botvision.training.task import Evaluation, Task, first_at_random


class ClassificationTask(Task):
    """A classification experiment with its data.

    Raises:
        UserError: no data folder given, something wrong in it, splits with other classes, one class alone, a warm-up
            that is longer than the run, or parts frozen that nothing was loaded into.
    """

    kind = "classification"
    columns = ("loss", "top1")
    score_columns = ("val_top1", "val_top5", "val_loss")

    def __init__(self, experiment: ClassificationExperiment) -> None:
        data, size = experiment.data, experiment.model.image_size
        if data.data is None:
            raise UserError("--data is missing: a folder with train/ and val/, in each a folder for every class")
        if experiment.model.freeze != "none" and experiment.run.weights is None:
            raise UserError(f"--freeze {experiment.model.freeze} needs --weights: it would keep what is at random")
        self.experiment = experiment
        augmentation = train_augmentation(
            size,
            crop_scale=data.crop_scale,
            crop_ratio=data.crop_ratio,
            flip=data.flip,
            randaugment=data.randaugment,
        )
        self.train_set = open_classes(data.data, data.train_split, augmentation, limit=data.train_images)
        self.val_set = open_classes(data.data, data.val_split, eval_crop(size), limit=data.val_images)
        check_same_classes(self.train_set, self.val_set)
        if len(self.train_set.classes) < 2:
            raise UserError(
                f"{data.data}: {data.train_split} has one class alone, {self.train_set.class_names[0]!r}: there is "
                "nothing to tell apart; --data needs train/ and val/, in each a folder for every class"
            )
        self.ema_decay = experiment.optimizer.ema_decay
        self.warmup = math.ceil(experiment.optimizer.warmup_epochs * len(self.train_set) / experiment.run.batch_size)
        steps = total_steps(experiment, len(self.train_set))
        if self.warmup >= steps:
            raise UserError(
                f"--warmup-epochs {experiment.optimizer.warmup_epochs} are {self.warmup} steps, the whole run has "
                f"{steps}; choose a shorter warm-up, or a longer run by --epochs or --steps"
            )
        self.mix = mixing(data, len(self.train_set.classes))

    def description(self) -> dict[str, Any]:
        """The classifier as data, and its classes."""
        return describe(self.experiment.model, self.train_set.classes, self.train_set.class_names)

    def make_model(self) -> Classifier:
        """The classifier, at random."""
        return Classifier(self.experiment.model, len(self.train_set.classes))

    def start_from(self, model: nn.Module, state: dict[str, Tensor]) -> LoadReport:
        """Put initial weights into the network; its last layer stays at random where classes are of another number."""
        if any(name.startswith("backbone.") for name in state):
            raise UserError(f"{self.experiment.run.weights} is a detector's; a classifier starts from a classifier's")
        report = load_weights(model.network, state)  # type: ignore[arg-type]
        check_frozen(self.experiment.model.freeze, report)
        return report

    def to_compile(self, model: nn.Module) -> nn.Module:
        """The network, without the normalisation of the images."""
        return model.network  # type: ignore[return-value]

    def rate(self, step: int, steps: int) -> float:
        """A rise in equal parts, then a cosine to 0."""
        return cosine_schedule(self.warmup, step, steps)

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Cross entropy, and the share of images whose likeliest class is the label (of two mixed, the stronger)."""
        device = next(model.parameters()).device
        if not batch["targets"]:
            return nothing_to_learn(model, self.experiment.model.image_size, device)
        labels = torch.tensor([target["label"] for target in batch["targets"]], device=device)
        images, labels = self.mix(batch["images"].to(device), labels)
        # One image alone would be refused by a batch norm on a map of one position; twice the same changes no gradient.
        logits = model(images if len(images) > 1 else images.repeat(2, 1, 1, 1)).float()[: len(images)]
        loss = F.cross_entropy(logits, labels, label_smoothing=self.experiment.optimizer.label_smoothing)
        strongest = labels if labels.ndim == 1 else labels.argmax(dim=1)
        return {"loss": loss, "top1": (logits.argmax(dim=1) == strongest).float().mean()}

    def evaluate(self, model: nn.Module, batch_size: int, on_image: Callable[[int, int], None]) -> Evaluation:
        """Top-1 and its companions; top-1 says which checkpoint is the best."""
        workers = self.experiment.data.workers
        scores, predictions = evaluate_classifier(
            model,  # type: ignore[arg-type]
            self.val_set,
            batch_size=batch_size,
            workers=workers,
            on_image=on_image,
        )
        columns = {name: scores[name.removeprefix("val_")] for name in self.score_columns}
        text = f"top-1 {scores['top1']:.1%}, top-5 {scores['top5']:.1%}, loss {scores['loss']:.3f}"
        return Evaluation(scores, predictions, columns, scores["top1"], text)

    def write(self, folder: Path, evaluation: Evaluation, step: int) -> None:
        """Scores, predictions and the confusion matrix."""
        names = self.train_set.class_names
        write_classification(folder, evaluation.scores, evaluation.results, names, step=step)


def check_frozen(freeze: Freeze, report: LoadReport) -> None:
    """Refuse to freeze a stage that was not loaded as a whole: it would stay at random."""
    stages = list(STAGES)
    frozen = stages[: stages.index(freeze) + 1] if freeze != "none" else []
    for works, stage in zip(["none", *stages], frozen, strict=False):
        name = first_at_random(report, STAGES[stage])
        if name:
            raise UserError(
                f"--freeze {freeze} would keep {name} at random, which the weights do not hold; "
                f"the most that these weights allow is --freeze {works}"
            )


Mix = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def mixing(data: ClassificationData, classes: int) -> Mix:
    """Mixup, cutmix, one of the two at random for each batch, or neither.

    The function takes images (B, 3, H, W) uint8 and labels (B,), and gives images of the same shape with labels (B,)
    as they were, or (B, classes), shares that add up to 1. It draws from torch's global generator.
    """
    kinds = {MixUp: data.mixup, CutMix: data.cutmix}
    chosen = [kind(alpha=alpha, num_classes=classes) for kind, alpha in kinds.items() if alpha]
    if not chosen:
        return lambda images, labels: (images, labels)
    either = RandomChoice(chosen)
    return lambda images, labels: either(images.float(), labels)  # mixed colours are no whole numbers


def nothing_to_learn(model: nn.Module, size: int, device: torch.device) -> dict[str, Tensor]:
    """What a batch without any readable image is worth: a loss of 0, whose gradient is 0.

    Two grey images go through the network all the same, because other processes wait for this one's part in the batch
    norms and gradients; one alone would be refused by a batch norm on a map of one position.
    """
    grey = torch.full((2, 3, size, size), 128, dtype=torch.uint8, device=device)
    loss = 0.0 * model(grey).float().sum()
    return {"loss": loss, "top1": torch.zeros_like(loss)}
