"""Which candidates are the best, decided by their place where their scores are equal.

``torch.topk`` takes equal scores in an order of its own, which differs between devices and between inputs. Flat areas
of an image have many anchors of equal scores, so that its order would decide what a detector finds there.
"""

from torch import Tensor


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
