"""Optimiser and learning rate of detection, as in the authors' public TPU detection code.

That code is github.com/tensorflow/tpu, models/official/detection.
"""

import torch
from torch import nn

from botvision.training.config import OptimizerConfig

REFERENCE_BATCH = 64
"""Images in a batch for which learning rates are written down."""


def step_schedule(config: OptimizerConfig, step: int, steps: int) -> float:
    """Learning rate at a step as a factor of ``config.lr``: linear warm-up, then a tenth less at each of ``decay_at``.

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


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Parameters that decay (weights of convolutions and linear layers) and those that do not (all others)."""
    layers = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    weights = {module.weight for module in model.modules() if isinstance(module, layers)}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in trained if parameter in weights], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter not in weights], "weight_decay": 0.0},
    ]


def sgd(model: nn.Module, config: OptimizerConfig, batch_size: int) -> torch.optim.SGD:
    """SGD with momentum; its learning rate grows linearly with the batch (Goyal et al. 2017)."""
    lr = config.lr * batch_size / REFERENCE_BATCH
    return torch.optim.SGD(parameter_groups(model, config.weight_decay), lr=lr, momentum=config.momentum)
