"""A detector under training, for the training engine."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from botvision.data import Category
from botvision.data.loading import Batch, mixed_seed
from botvision.detection import MaskRCNN
from botvision.detection.checkpoint import describe
from botvision.errors import UserError
from botvision.training.config import DetectionExperiment
from botvision.training.schedule import sgd, step_schedule


class DetectionModule(pl.LightningModule):
    """Mask R-CNN, its losses, optimiser and schedule.

    Args:
        experiment: the configuration.
        model: the network.
        categories: the classes, in the order of the labels 1..K; they go into every checkpoint.
        steps: optimiser steps of the whole run.
    """

    def __init__(
        self, experiment: DetectionExperiment, model: MaskRCNN, categories: list[Category], steps: int
    ) -> None:
        super().__init__()
        self.experiment = experiment
        self.model = model
        self.categories = categories
        self.steps = steps

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Draw this step's randomness from (seed, step, process), so that a resumed run draws the same."""
        place = batch_idx * self.trainer.world_size + self.global_rank
        torch.manual_seed(mixed_seed(self.experiment.run.seed, place))

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """The sum of the losses as "loss", and each of them, detached, under its own name.

        Raises:
            UserError: the loss is not a finite number.
        """
        targets = batch["targets"]
        losses = self.model(batch["images"], [target["content_size"] for target in targets], targets)
        total = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(total):
            raise UserError(
                f"the loss is {total.item()} at step {self.global_step}: lower --lr (now "
                f"{self.experiment.optimizer.lr}) or set --clip-norm; checkpoints/last.ckpt, if there is one, "
                "is from before it"
            )
        return {"loss": total, **{name: loss.detach() for name, loss in losses.items()}}

    def configure_optimizers(self) -> dict[str, Any]:  # type: ignore[override]
        """SGD with the step schedule, advanced at every step."""
        config = self.experiment.optimizer
        optimizer = sgd(self.model, config, self.experiment.run.batch_size)
        scheduler = LambdaLR(optimizer, lambda step: step_schedule(config, step, self.steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put what the weights belong to beside them."""
        checkpoint["botvision"] = describe(self.model.config, self.categories)
