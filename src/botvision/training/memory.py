"""Whether a training step fits in memory. On a processor the system ends without a word what takes too much."""

from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from botvision.configuration import FieldError
from botvision.data.loading import RunBatches
from botvision.device import process_counts
from botvision.training.sharing import gather_or_raise, on_every_process
from botvision.training.trainable import Trainable

GIB = 2**30
MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")


def check_memory(task: Trainable, model: nn.Module, fabric: Fabric) -> None:
    """Refuse more images at once than fit, by what the forward pass of one or two keeps for their gradients.

    A step needs more than that, so what is refused cannot run. The model, and the random numbers of the run, stay as
    they are. GPUs are not looked at: they say themselves when their memory is too small. All processes have to call it.

    Raises:
        FieldError: of images_per_device, with the number that fits.
        UserError: the first images cannot be read.
    """
    free = free_memory()
    if fabric.device.type != "cpu" or free is None:
        return
    images = task.experiment.run.images_at_once(fabric.world_size)
    measured = min(2, images)  # batch norm can need two
    of_an_image = memory_of_images(measured, task, model, fabric) // measured
    # Gradients and momentum; the weights themselves are there already.
    of_the_weights = 2 * sum(bytes_of(parameter) for parameter in model.parameters() if parameter.requires_grad)
    own = free // process_counts(fabric.device)[0]
    on_every_process(lambda: refuse_above(own, images, of_an_image, of_the_weights))


def refuse_above(free: int, images: int, of_an_image: int, of_the_weights: int) -> None:
    """Raise a FieldError where some images at once, and the weights, need more than the free bytes."""
    needed = images * of_an_image + of_the_weights
    if needed > free:
        most = max(0, free - of_the_weights) // max(1, of_an_image)
        advice = f"choose at most {most}" if most else "choose a smaller model or smaller images"
        raise FieldError(
            ("run", "images_per_device"),
            f"{images} images at once need over {needed / GIB:.1f} GiB of memory, {free / GIB:.1f} are free; {advice}",
        )


def memory_of_images(count: int, task: Trainable, model: nn.Module, fabric: Fabric) -> int:
    """Bytes that the forward pass of some training images keeps for the backward pass; 0 if none can be read."""
    kept: dict[int, int] = {}
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    was_training = model.training
    with torch.random.fork_rng(devices=[]), saved_tensors_hooks(keep, lambda tensor: tensor), fabric.autocast():
        batch = on_every_process(
            lambda: next(iter(task.loader(RunBatches(task.images, count, 1, seed=task.experiment.run.seed))))
        )
        if all(gather_or_raise(lambda: batch["size"])):  # a loss can be a mean over all processes
            task.losses(model.train(), batch)
    model.train(was_training)
    for name, buffer in model.named_buffers():
        buffer.copy_(buffers[name])
    return sum(kept.values())


def bytes_of(tensor: Tensor) -> int:
    """Size of a tensor."""
    return tensor.numel() * tensor.element_size()


def free_memory() -> int | None:
    """Bytes, swap included, that this process can still have; None where the system does not say (it is no Linux)."""
    try:
        fields = dict(line.split(":", 1) for line in MEMINFO.read_text(encoding="utf-8").splitlines())
        free = 1024 * sum(int(fields[name].split()[0]) for name in ("MemAvailable", "SwapFree"))
    except (OSError, KeyError, ValueError):
        return None
    try:  # of a container; what is not "anon" can be given back
        limit = int((CGROUP / "memory.max").read_text(encoding="utf-8"))
        lines = (CGROUP / "memory.stat").read_text(encoding="utf-8").splitlines()
        used = next(int(line.split()[1]) for line in lines if line.startswith("anon "))
    except (OSError, ValueError, StopIteration):  # no container, or one without a limit ("max")
        return free
    return min(free, limit - used)
