"""Learning-rate schedules and the SGD optimiser, as functions of numbers; tasks call them with their settings."""

import math
from collections.abc import Sequence

import torch
from torch import nn

from botvision.training.config import scaled_lr


def step_schedule(step: int, steps: int, *, warmup_steps: int, warmup_start: float, decay_at: Sequence[float]) -> float:
    """Factor on the learning rate: a linear warm-up, then divided by 10 at each of ``decay_at``.

    As in the authors' public TPU detection code (github.com/tensorflow/tpu, models/official/detection).

    Args:
        step: optimiser steps done.
        steps: of the whole run.
        warmup_steps: steps of the linear rise.
        warmup_start: factor of the first step.
        decay_at: shares of the run, between 0 and 1.
    """
    factor = 0.1 ** sum(step >= share * steps for share in decay_at)
    if step < warmup_steps:
        return factor * (warmup_start + (1 - warmup_start) * step / warmup_steps)
    return factor


def cosine_schedule(step: int, steps: int, *, warmup_steps: int) -> float:
    """Factor on the learning rate: a linear rise, then half a cosine down to 0.

    Args:
        step: optimiser steps done.
        steps: of the whole run; after them the factor would be 0.
        warmup_steps: steps of the rise; the first has the factor ``1 / warmup_steps``, the last one 1.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return (1 + math.cos(math.pi * (step - warmup_steps) / (steps - warmup_steps))) / 2


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Trainable parameters in two groups: with decay (weights of convolutions and linear layers), and without."""
    layers = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    weights = {module.weight for module in model.modules() if isinstance(module, layers)}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in trained if parameter in weights], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter not in weights], "weight_decay": 0.0},
    ]


def adamw(model: nn.Module, *, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW; the decay is that of :func:`sgd`."""
    return torch.optim.AdamW(parameter_groups(model, weight_decay), lr=lr)


def sgd(
    model: nn.Module,
    *,
    lr: float,
    batch_size: int,
    reference_batch: int,
    momentum: float,
    weight_decay: float,
    nesterov: bool = False,
) -> torch.optim.SGD:
    """SGD whose learning rate grows linearly with the batch.

    Args:
        model: its trainable parameters are optimised.
        lr: learning rate for a batch of ``reference_batch`` images.
        batch_size: images in one optimiser step.
        weight_decay: of the weights of convolutions and linear layers; norms, biases and relative tables have none.
    """
    groups, rate = parameter_groups(model, weight_decay), scaled_lr(lr, batch_size, reference_batch)
    return torch.optim.SGD(groups, lr=rate, momentum=momentum, nesterov=nesterov)
