"""The loss of a batch of images, with mixup and cutmix."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms.v2 import CutMix, MixUp, RandomChoice

from botvision.data.loading import Batch
from botvision.tasks.classification.config import ClassificationData
from botvision.training.sharing import mean_of_batch

Mix = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def mixing(data: ClassificationData, classes: int) -> Mix:
    """Mixup, cutmix, one of the two at random for each batch, or neither.

    The function takes images (B, C, H, W) and labels (B,), and gives images of the same shape with labels (B,)
    as they were, or (B, classes), shares that add up to 1. It draws from torch's global generator.
    """
    kinds = {MixUp: data.mixup, CutMix: data.cutmix}
    chosen = [kind(alpha=alpha, num_classes=classes) for kind, alpha in kinds.items() if alpha]
    if not chosen:
        return lambda images, labels: (images, labels)
    either = RandomChoice(chosen)
    return lambda images, labels: either(images.float(), labels)  # mixed colours are not whole numbers


def classification_losses(
    model: nn.Module, batch: Batch, mix: Mix, *, label_smoothing: float, image_size: int, channels: int = 3
) -> dict[str, Tensor]:
    """Cross-entropy, and the share of images whose likeliest class is the label (of two mixed ones, the stronger).

    Args:
        model: pixels to logits (B, K).
        batch: "images" (B, C, H, W) and "targets", each with a "label"; B may be 0.
        mix: from :func:`mixing`.
        label_smoothing: share of a label's weight that is spread over all classes.
        image_size, channels: height and width of the images, in pixels, and their channels.

    Returns:
        "loss" and "top1", one number each, whose mean over the processes is that over all images that could be read.
    """
    device = next(model.parameters()).device
    if not batch["targets"]:
        # Other processes wait for this one's part in the batch norms and gradients: grey images give a gradient of 0.
        grey = torch.full((2, channels, image_size, image_size), 128, dtype=torch.uint8, device=device)
        nothing = mean_of_batch((0.0 * model(grey).float().sum()).expand(2), 0)
        return {"loss": nothing[0], "top1": nothing[1]}
    labels = torch.tensor([target["label"] for target in batch["targets"]], device=device)
    images, labels = mix(batch["images"].to(device), labels)
    # A batch norm on a map of one position refuses one image alone; twice the same image changes no gradient.
    logits = model(images if len(images) > 1 else images.repeat(2, 1, 1, 1)).float()[: len(images)]
    strongest = labels if labels.ndim == 1 else labels.argmax(dim=1)
    loss = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    means = mean_of_batch(torch.stack([loss, (logits.argmax(dim=1) == strongest).float().mean()]), len(labels))
    return {"loss": means[0], "top1": means[1]}
