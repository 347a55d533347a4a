"""Batch norm over all processes of a run on processors; PyTorch's ``SyncBatchNorm`` takes GPUs alone."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class SumOverProcesses(torch.autograd.Function):
    """A tensor added up over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ANN401
        """(...) -> (...), the same on every process."""
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # noqa: ANN401
        """The sum counts once for the loss of each process."""
        return SumOverProcesses.forward(ctx, grad)


class SyncedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm whose mean and variance are those of all processes together.

    Parts may have different numbers of positions, none included. Every process has to call it equally often.

    Shape:
        (B, C) or (B, C, ...) -> the same.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """Take what any of PyTorch's batch norms takes."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise, in training by the statistics of the whole batch, which the running ones follow."""
        if not self.training:
            return super().forward(input)
        axes = [axis for axis in range(input.ndim) if axis != 1]
        count = torch.tensor(float(input.numel() // input.shape[1]))
        dist.all_reduce(count)
        mean = SumOverProcesses.apply(input.sum(dim=axes)) / count
        shape = [1, -1] + [1] * (input.ndim - 2)
        centred = input - mean.view(shape)
        variance = SumOverProcesses.apply(centred.square().sum(dim=axes)) / count
        self.follow(mean.detach(), variance.detach() * count / (count - 1).clamp(min=1))
        scale = (variance + self.eps).rsqrt()
        if self.affine:
            scale = scale * self.weight
        normed = centred * scale.view(shape)
        return normed + self.bias.view(shape) if self.affine else normed

    @torch.no_grad()
    def follow(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics towards those of a batch, the variance without bias as PyTorch has it."""
        if self.num_batches_tracked is None or self.running_mean is None or self.running_var is None:
            return
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(variance.to(self.running_var.dtype), share)


def synchronised(model: nn.Module, device: torch.device) -> nn.Module:
    """The model with every batch norm over all processes (paper, Section 4); names and weights stay.

    Args:
        model: changed in place.
        device: where it will run.
    """
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    norms = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)}
    for name, layer in norms.items():
        synced = SyncedBatchNorm(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
        synced.load_state_dict(layer.state_dict())
        for own, other in zip(synced.parameters(), layer.parameters(), strict=True):
            own.requires_grad_(other.requires_grad)
        model.set_submodule(name, synced.to(next(layer.parameters(), torch.empty(0)).dtype).train(layer.training))
    return model
