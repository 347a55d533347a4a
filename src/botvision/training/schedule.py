"""Optimiser and learning rates: steps for detection, a cosine for classification."""

import math

import torch
from torch import nn

from botvision.training.config import ClassificationOptimizer, OptimizerConfig


def step_schedule(config: OptimizerConfig, step: int, steps: int) -> float:
    """Learning rate at a step as a factor of ``config.lr``: linear warm-up, then a tenth less at each of ``decay_at``.

    As in the authors' public TPU detection code (github.com/tensorflow/tpu, models/official/detection).

    Args:
        config: ``warmup_lr``, ``warmup_steps`` and ``decay_at`` count.
        step: optimiser steps done.
        steps: of the whole run.
    """
    factor = 0.1 ** sum(step >= share * steps for share in config.decay_at)
    if step < config.warmup_steps:
        start = config.warmup_lr / config.lr
        return factor * (start + (1 - start) * step / config.warmup_steps)
    return factor


def cosine_schedule(warmup: int, step: int, steps: int) -> float:
    """Learning rate at a step as a factor of the full one: up in equal parts, then down as half a cosine to 0.

    Args:
        warmup: steps of the rise; the last of them has the full rate, the first its ``1 / warmup``.
        step: optimiser steps done.
        steps: of the whole run; after them the rate would be 0.
    """
    if step < warmup:
        return (step + 1) / warmup
    return (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Parameters that decay (weights of convolutions and linear layers) and those that do not (all others)."""
    layers = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    weights = {module.weight for module in model.modules() if isinstance(module, layers)}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in trained if parameter in weights], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter not in weights], "weight_decay": 0.0},
    ]


def sgd(model: nn.Module, config: OptimizerConfig | ClassificationOptimizer, batch_size: int) -> torch.optim.SGD:
    """SGD with momentum; its learning rate grows linearly with the batch (Goyal et al. 2017)."""
    lr = config.lr * batch_size / config.reference_batch
    groups = parameter_groups(model, config.weight_decay)
    return torch.optim.SGD(groups, lr=lr, momentum=config.momentum, nesterov=config.nesterov)
