"""Weights of which each process holds a part: PyTorch's FSDP2, and whole checkpoints from them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from botvision.layers import Bottleneck


def shard_losses(losses: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Shard the network of a ``LossModule`` over the processes, for Fabric."""
    shard(losses.get_submodule("model"), mesh["data_parallel"])
    return losses


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Let each process keep a part of every weight; a block's weights are whole while it computes."""
    model.to(memory_format=torch.contiguous_format)  # FSDP takes no other
    for block in model.modules():
        if isinstance(block, Bottleneck):
            fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def shard_like(model: nn.Module, other: nn.Module) -> None:
    """Shard a network over the same processes as a copy of it, if that is sharded."""
    weight = next(other.parameters())
    if isinstance(weight, DTensor):
        shard(model, weight.device_mesh)


@contextmanager
def whole_weights(model: nn.Module) -> Iterator[None]:
    """A context in which each process holds all weights of a network, so that it can compute without the others."""
    parts = [part for part in model.modules() if isinstance(part, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.reshard()
            part.set_reshard_after_forward(part is not model, recurse=False)


def whole(values: Any) -> Any:  # noqa: ANN401 (a state dict of a model or an optimiser)
    """A state dict with whole tensors on the processor instead of parts; all processes have to call it."""
    if isinstance(values, DTensor):
        return values.full_tensor().cpu()
    if isinstance(values, Mapping):
        return {name: whole(value) for name, value in values.items()}
    return values


def load_whole(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a whole state dict; of weights that are divided each process takes its part."""
    own = model.state_dict()
    model.load_state_dict({name: own_part(value, own[name]) if name in own else value for name, value in state.items()})


def load_whole_optimizer(optimizer: torch.optim.Optimizer, content: dict[str, Any]) -> None:
    """Load a whole state dict of an optimiser; of numbers of divided weights each process takes its part."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    state = {
        index: {name: own_part(value, weights[index]) for name, value in numbers.items()}
        for index, numbers in content["state"].items()
    }
    optimizer.load_state_dict({**content, "state": state})


def own_part(value: Any, like: Tensor) -> Any:  # noqa: ANN401 (of a state dict)
    """The part of a whole tensor that this process holds of one like it; what is not divided stays as it is."""
    if not isinstance(like, DTensor) or not isinstance(value, Tensor) or value.shape != like.shape:
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)


def local(value: Tensor) -> Tensor:
    """What of a tensor is on this process."""
    return value.to_local() if isinstance(value, DTensor) else value
