"""Which candidates are the best, decided by their place where their scores are equal.

``torch.topk`` and torchvision's NMS take equal scores in an order of their own, which differs between devices and
between inputs. Flat areas of an image have many anchors of equal scores, so that this order would decide what a
detector finds there.
"""

from torch import Tensor
from torchvision.ops import batched_nms


def best_first(scores: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The best scores and their places, equal scores in the order in which they stand.

    Args:
        scores: (..., N).
        most: how many are taken, K; all N where there are fewer.

    Returns:
        Scores and places, (..., K), best first.
    """
    values, places = scores.sort(dim=-1, descending=True, stable=True)
    return values[..., :most], places[..., :most]


def best_apart(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float, most: int) -> Tensor:
    """The best boxes that non-maximum suppression in each group leaves, equal ones in the order in which they stand.

    Args:
        boxes: (N, 4), x1, y1, x2, y2.
        scores: (N,).
        groups: (N,), the classes or levels, which do not suppress each other.
        threshold: IoU above which the weaker of two boxes goes.
        most: how many are taken, K.

    Returns:
        Their places among the N, at most K, best first.
    """
    kept = batched_nms(boxes, scores, groups, threshold).sort().values
    return kept[best_first(scores[kept], most)[1]]
