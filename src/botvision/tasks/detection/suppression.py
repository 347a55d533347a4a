"""Non-maximum suppression in batches of images, as a program of tensors alone."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor
from torchvision.ops import nms

ABSENT = -math.inf
"""Score of what is no candidate."""
_is_one_operator = ContextVar("_is_one_operator", default=False)


@contextmanager
def as_one_operator() -> Iterator[None]:
    """Have programs that are traced inside call ``torch.ops.botvision.suppressed``, for a translation of one's own."""
    token = _is_one_operator.set(True)
    try:
        yield
    finally:
        _is_one_operator.reset(token)


def suppressed(boxes: Tensor, scores: Tensor, groups: Tensor, group_count: int, threshold: float) -> Tensor:
    """Non-maximum suppression inside each group of each image: the scores, -inf where a box is suppressed or absent.

    Args:
        boxes: (B, N, 4), no coordinate below 0.
        scores: (B, N), -inf where there is no box.
        groups: (B, N), from 0 to group_count - 1.
        group_count: G.
        threshold: IoU above which the weaker of two boxes goes.
    """
    if _is_one_operator.get():
        return torch.ops.botvision.suppressed(boxes, scores, groups, group_count, threshold)
    return in_one_call(boxes, scores, groups, group_count, threshold)


def in_one_call(boxes: Tensor, scores: Tensor, groups: Tensor, group_count: int, threshold: float) -> Tensor:
    """:func:`suppressed` by one call of torchvision's operator, which ``torch.export`` can trace for any batch.

    The groups of all images lie below each other, so far that they do not touch, in float64, which does not round
    them. The time grows with the square of the batch.
    """
    candidates = (scores > ABSENT).flatten().nonzero()[:, 0]
    place = candidates // boxes.shape[1] * group_count + groups.flatten()[candidates]
    apart = place[:, None] * (boxes.max() + 1).double()
    given = scores.flatten()[candidates].double()
    kept = nms(boxes.flatten(0, 1)[candidates].double() + apart, given, threshold)
    chosen = candidates[kept]
    return torch.full_like(scores.flatten(), ABSENT).scatter(0, chosen, scores.flatten()[chosen]).view_as(scores)


@torch.library.custom_op("botvision::suppressed", mutates_args=())
def _operator(boxes: Tensor, scores: Tensor, groups: Tensor, group_count: int, threshold: float) -> Tensor:
    return in_one_call(boxes, scores, groups, group_count, threshold)


@_operator.register_fake
def _(boxes: Tensor, scores: Tensor, groups: Tensor, group_count: int, threshold: float) -> Tensor:
    return torch.empty_like(scores)
