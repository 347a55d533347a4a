"""Batch norm over the images of all processes of a run (paper, Section 4), also where they run on processors."""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn


def synchronised(model: nn.Module, device: torch.device) -> nn.Module:
    """The network with batch norms that take their statistics over all processes; its weights are the same objects.

    On GPUs they are PyTorch's own, which has none for processors.
    """
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    # A group of their own: whatever the order of these sums and of DDP's on a process, they never meet.
    group = dist.new_group()
    assert isinstance(group, dist.ProcessGroup), "this process is in it"
    for parent in list(model.modules()):
        for name, norm in parent.named_children():
            if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
                setattr(parent, name, ProcessBatchNorm(norm, group))
    return model


class ProcessBatchNorm(nn.Module):
    """A batch norm whose statistics in training are those of all processes together; in test it is the one it replaces.

    Exact where processes hold different numbers of positions, none included. Every process ends with the same running
    statistics. Names in a state dict are those of the batch norm that it replaces.

    Args:
        norm: the batch norm; its weights and buffers are taken over.
        group: of all processes.

    Shape:
        input and output (B, C, ...).
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d, group: dist.ProcessGroup) -> None:
        super().__init__()
        self.momentum, self.eps, self.group = norm.momentum, norm.eps, group
        self.weight, self.bias = norm.weight, norm.bias
        for name, buffer in norm.named_buffers():
            self.register_buffer(name, buffer)
        self.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise; in training also update the running statistics."""
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        mean, variance, count = statistics(x, self.group)
        self.num_batches_tracked += 1
        share = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * (count / (count - 1)), share)  # unbiased, as PyTorch has it
        normalised: Tensor = Normalise.apply(x, self.weight, self.bias, mean, variance, count, self.eps, self.group)
        return normalised


@torch.compiler.disable
@torch.no_grad()
def statistics(x: Tensor, group: dist.ProcessGroup) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (C,) and biased variance (C,) over the positions of all processes, and their number, in float32.

    Raises:
        ValueError: one position in all, whose variance says nothing.
    """
    count, (dims, shape) = x.numel() // x.shape[1], layout(x)
    mean = x.sum(dims, dtype=torch.float32) / max(1, count)
    squares = (x - mean.view(shape)).square().sum(dims)
    own = torch.stack([torch.full_like(mean, count), mean, squares]).double()
    everyone = [torch.empty_like(own) for _ in range(dist.get_world_size(group))]
    dist.all_gather(everyone, own, group=group)
    counts, means, sums = torch.stack(everyone).unbind(dim=1)  # each (processes, C)
    total = counts.sum(dim=0)
    if total[0] < 2:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {tuple(x.shape)}")
    mean = (counts * means).sum(dim=0) / total
    # The squares around the own mean, moved to the common one (Chan et al. 1979).
    variance = (sums + counts * (means - mean).square()).sum(dim=0) / total
    return mean.float(), variance.float(), total[0].float()


def layout(x: Tensor) -> tuple[list[int], tuple[int, ...]]:
    """The dimensions of x that are no channels, and the shape in which (C,) fits x."""
    return [0, *range(2, x.ndim)], (1, -1, *[1] * (x.ndim - 2))


class Normalise(torch.autograd.Function):
    """Batch norm by given statistics that are those of all processes, whose gradients therefore meet too."""

    @staticmethod
    @torch.compiler.disable
    def forward(
        ctx: Any,  # noqa: ANN401 (PyTorch's)
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        variance: Tensor,
        count: Tensor,
        eps: float,
        group: dist.ProcessGroup,
    ) -> Tensor:
        """(B, C, ...) -> the same shape and type."""
        ctx.save_for_backward(x, weight, mean, (variance + eps).rsqrt(), count)
        ctx.group = group
        return F.batch_norm(x, mean, variance, weight, bias, eps=eps)

    @staticmethod
    @torch.compiler.disable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 (PyTorch's)
        """Gradients of x, weight and bias; those of the weights are of this process alone, and DDP averages them."""
        x, weight, mean, scale, count = ctx.saved_tensors
        dims, shape = layout(x)
        own, centred = grad.float(), (x - mean.view(shape)) * scale.view(shape)
        sums = torch.stack([(own * centred).sum(dims), own.sum(dims)])
        of_all = sums.clone()
        dist.all_reduce(of_all, group=ctx.group)
        weight_part, bias_part = (of_all / count).unbind()
        gradient = (own - bias_part.view(shape) - centred * weight_part.view(shape)) * scale.view(shape)
        if weight is None:
            return gradient.to(x.dtype), *[None] * 7
        return (gradient * weight.view(shape)).to(x.dtype), sums[0], sums[1], *[None] * 5
