"""A network under training, for the training engine."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from botvision.data.loading import Batch, mixed_seed
from botvision.errors import NotFiniteError, UserError
from botvision.training.average import WeightAverage
from botvision.training.task import Task


class TrainingModule(pl.LightningModule):
    """A network with the losses, optimiser and schedule of its task.

    Args:
        task: what is trained.
        model: the network.
        steps: optimiser steps of the whole run.
    """

    def __init__(self, task: Task, model: nn.Module, steps: int) -> None:
        super().__init__()
        self.task = task
        self.model = model
        self.steps = steps
        decay = task.ema_decay
        self.average = None if decay is None else WeightAverage(model, decay)  # no module: it is not trained

    @property
    def scored_model(self) -> nn.Module:
        """The network to evaluate: by the average of its weights where there is one."""
        return self.average.model if self.average else self.model

    def on_fit_start(self) -> None:
        """Take the average to where the network is."""
        if self.average:
            self.average.model.to(self.device)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Draw this step's randomness from (seed, step, process), so that a resumed run draws the same."""
        place = batch_idx * self.trainer.world_size + self.global_rank
        torch.manual_seed(mixed_seed(self.task.experiment.run.seed, place))

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """The "loss", and all numbers of the task, detached, as "shown".

        Raises:
            NotFiniteError: the loss is infinite or no number.
        """
        losses = self.task.losses(self.model, batch)
        if not torch.isfinite(losses["loss"]):
            raise NotFiniteError(f"the loss is {losses['loss'].item()} at step {self.global_step}")
        return {"loss": losses["loss"], "shown": {name: value.detach() for name, value in losses.items()}}

    def optimizer_step(self, *arguments: Any, **keywords: Any) -> None:  # noqa: ANN401
        """Make a step, and take it into the average; the engine counts the step only afterwards."""
        super().optimizer_step(*arguments, **keywords)
        if self.average:
            self.average.update(self.model, self.global_step + 1)

    def configure_optimizers(self) -> dict[str, Any]:  # type: ignore[override]
        """The task's optimiser, its rate set anew at every step."""
        optimizer = self.task.optimizer(self.model)
        scheduler = LambdaLR(optimizer, lambda step: self.task.rate(step, self.steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put what the weights belong to beside them, and their average."""
        checkpoint["botvision"] = self.task.description()
        if self.average:
            checkpoint["ema_state_dict"] = self.average.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The average of the run that is resumed.

        Raises:
            UserError: that run kept none.
        """
        if self.average:
            if "ema_state_dict" not in checkpoint:
                raise UserError("the checkpoint holds no average of weights, which ema_decay in config.yaml asks for")
            self.average.load_state_dict(checkpoint["ema_state_dict"])
