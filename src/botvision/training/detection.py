"""Training a detector: Mask R-CNN on images and annotations in COCO's layout."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from botvision.classification.classifier import STAGES
from botvision.data import CocoDetection, eval_transform, train_transform
from botvision.data.loading import Batch
from botvision.detection import MaskRCNN
from botvision.detection.checkpoint import describe
from botvision.errors import UserError
from botvision.evaluation import evaluate_detector
from botvision.models import LoadReport, load_weights
from botvision.training.config import DetectionExperiment
from botvision.training.run_folder import write_evaluation
from botvision.training.schedule import step_schedule
from botvision.training.task import Evaluation, Task, first_at_random

FROZEN = STAGES["stem"] + STAGES["c2"]
"""What ``freeze_stem`` freezes."""


class DetectionTask(Task):
    """A detection experiment with its data.

    Raises:
        UserError: no data folder given, something wrong in it, splits with other classes, or parts frozen that nothing
            was loaded into.
    """

    kind = "detection"
    columns = ("loss", "objectness", "proposal_box", "class", "box", "mask")
    score_columns = ("val_box_ap", "val_box_ap50", "val_mask_ap", "val_mask_ap50")

    def __init__(self, experiment: DetectionExperiment) -> None:
        data, size = experiment.data, experiment.model.input_size
        if data.data is None:
            raise UserError("--data is missing: a folder in COCO's layout, with annotations/ and the images")
        if experiment.model.freeze_stem and experiment.run.weights is None:
            raise UserError("--freeze-stem needs --weights: it would keep what is at random")
        self.experiment = experiment
        self.train_set = CocoDetection(
            data.data, data.train_split, train_transform(size, data.jitter, data.flip), limit=data.train_images
        )
        self.val_set = CocoDetection(data.data, data.val_split, eval_transform(size), limit=data.val_images)
        if not len(self.train_set):
            raise UserError(f"{self.train_set.annotation_file}: no image to train on")
        if self.train_set.categories != self.val_set.categories:
            raise UserError(
                f"{self.val_set.annotation_file}: its categories are not those of {self.train_set.annotation_file}"
            )

    def description(self) -> dict[str, Any]:
        """The detector as data, and its categories."""
        return describe(self.experiment.model, self.train_set.categories)

    def make_model(self) -> MaskRCNN:
        """The detector, at random."""
        return MaskRCNN(self.experiment.model, len(self.train_set.categories))

    def start_from(self, model: nn.Module, state: dict[str, Tensor]) -> LoadReport:
        """Put initial weights into the whole detector, or into its backbone where they are a network's."""
        whole = any(name.startswith("backbone.") for name in state)
        report = load_weights(model if whole else model.backbone.body, state)  # type: ignore[union-attr, arg-type]
        name = first_at_random(report, (f"backbone.body.{part}" if whole else part for part in FROZEN))
        if self.experiment.model.freeze_stem and name:
            raise UserError(f"--freeze-stem would keep {name} at random, which the weights do not hold; leave it out")
        return report

    def to_compile(self, model: nn.Module) -> nn.Module:
        """The backbone: what stands on it is of another size in every image."""
        return model.backbone  # type: ignore[return-value]

    def rate(self, step: int, steps: int) -> float:
        """A tenth less at each of ``decay_at``."""
        return step_schedule(self.experiment.optimizer, step, steps)

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The detector's losses, and their sum."""
        targets = batch["targets"]
        losses = model(batch["images"], [target["content_size"] for target in targets], targets)
        return {"loss": torch.stack(list(losses.values())).sum(), **losses}

    def evaluate(self, model: nn.Module, batch_size: int, on_image: Callable[[int, int], None]) -> Evaluation:
        """COCO's numbers; the masks' AP says which checkpoint is the best."""
        workers = self.experiment.data.workers
        scores, results = evaluate_detector(
            model,  # type: ignore[arg-type]
            self.val_set,
            batch_size=batch_size,
            workers=workers,
            on_image=on_image,
        )
        box, mask = scores["box"], scores["mask"]
        columns = {name: scores[name.split("_")[1]][name.split("_")[2]] for name in self.score_columns}
        text = f"box AP {box['ap']:.3f} (AP50 {box['ap50']:.3f}), mask AP {mask['ap']:.3f} (AP50 {mask['ap50']:.3f})"
        return Evaluation(scores, results, columns, mask["ap"], text)

    def write(self, folder: Path, evaluation: Evaluation, step: int) -> None:
        """Scores and detections."""
        write_evaluation(folder, evaluation.scores, evaluation.results, step=step)
