"""DETR's losses: each object is matched with one query (Carion et al. 2020, Section 3.1)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchvision.ops import box_convert, generalized_box_iou, generalized_box_iou_loss

from botvision.training.sharing import mean_of_batch

BOX_WEIGHT, GIOU_WEIGHT = 5.0, 2.0
"""Of the distance of boxes and of their generalised IoU, in the matching and in the losses; that of the class is 1."""
NO_OBJECT_WEIGHT = 0.1
"""Of the queries without an object in the loss of the class."""


class Objects(NamedTuple):
    """The objects of an image."""

    labels: Tensor
    """(N,) int64, from 1 on; 0 is "no object"."""
    boxes: Tensor
    """(N, 4), centre x and y, width and height, as shares of the image."""


def set_losses(logits: Tensor, boxes: Tensor, targets: Sequence[Objects]) -> dict[str, Tensor]:
    """The losses of all layers of the decoder, added up; each layer has a matching of its own.

    Args:
        logits: (layers, B, Q, K + 1), of "no object" first.
        boxes: (layers, B, Q, 4), as those of the objects.
        targets: of each image.

    Returns:
        "class": cross-entropy, a mean over the queries by their weights; "box" and "giou": sums over the matched
        queries, divided by the number of objects in the batch.
    """
    layer = torch.arange(len(logits), device=logits.device)[:, None]
    labels = torch.zeros(logits.shape[:-1], dtype=torch.int64, device=logits.device)
    found, wanted = [], []
    for image, target in enumerate(targets):
        queries, objects = match(logits[:, image], boxes[:, image], target)
        labels[layer, image, queries] = target.labels[objects]
        found.append(boxes[layer, image, queries].flatten(0, 1))
        wanted.append(target.boxes[objects].flatten(0, 1))
    ours, theirs = torch.cat(found), torch.cat(wanted)
    weights = logits.new_ones(logits.shape[-1])
    weights[0] = NO_OBJECT_WEIGHT
    objects_here = sum(len(target.labels) for target in targets)
    count = max(1, objects_here)
    box = F.l1_loss(ours, theirs, reduction="sum") / count
    giou = generalized_box_iou_loss(corners(ours), corners(theirs), reduction="sum") / count
    # The weights of a layer add up to the same in every layer, so the mean over all is the mean of their means.
    of_class = len(logits) * F.cross_entropy(logits.flatten(0, 2), labels.flatten(), weights)
    return {
        "class": mean_of_batch(of_class, weights[labels].sum()),
        "box": mean_of_batch(BOX_WEIGHT * box, objects_here),
        "giou": mean_of_batch(GIOU_WEIGHT * giou, objects_here),
    }


@torch.no_grad()
def match(logits: Tensor, boxes: Tensor, target: Objects) -> tuple[Tensor, Tensor]:
    """In each layer the pairs of a query and an object of an image that cost the least together.

    A pair costs the distance of the boxes, less their generalised IoU and the probability of the object's class, each
    by its weight.

    Args:
        logits, boxes: (layers, Q, K + 1) and (layers, Q, 4).
        target: N objects.

    Returns:
        Queries and objects, both (layers, min(Q, N)) int64.
    """
    probabilities = logits.softmax(dim=-1)[..., target.labels]
    distances = (boxes[:, :, None] - target.boxes).abs().sum(dim=-1)
    overlaps = generalized_box_iou(corners(boxes.flatten(0, 1)), corners(target.boxes)).unflatten(0, boxes.shape[:2])
    costs = BOX_WEIGHT * distances - GIOU_WEIGHT * overlaps - probabilities
    # Without nan_to_num SciPy would refuse what has blown up, before the loss shows it.
    pairs = [linear_sum_assignment(cost) for cost in costs.nan_to_num().cpu().numpy()]
    queries, objects = torch.from_numpy(np.array(pairs)).to(logits.device).unbind(dim=1)
    return queries, objects


def corners(boxes: Tensor) -> Tensor:
    """Centre and size -> x1, y1, x2, y2."""
    return box_convert(boxes, "cxcywh", "xyxy")
