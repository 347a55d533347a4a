"""The best candidates, with many of equal scores, beside the order that NumPy finds."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from botvision.tasks.detection.ranking import best_apart, best_first


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(1, 70))
def test_equal_scores_are_taken_in_their_order(numbers, most):
    scores = torch.tensor([numbers, numbers[::-1]], dtype=torch.float32)
    values, places = best_first(scores, most)
    for row, found, chosen in zip(scores.numpy(), values.numpy(), places.numpy(), strict=True):
        expected = np.lexsort((np.arange(len(row)), -row))[:most]
        assert chosen.tolist() == expected.tolist()
        assert found.tolist() == row[expected].tolist()


@pytest.mark.parametrize("copies", [3, 400])
def test_boxes_of_equal_scores_are_kept_in_their_order(copies):
    """Few and many, which torchvision suppresses in two ways; each box lies beside one that it suppresses."""
    rng = np.random.default_rng(0)
    corners = torch.arange(copies).float().repeat_interleave(2)[:, None] * 20
    boxes = torch.cat([corners, corners, corners + 10, corners + 10], dim=1)
    groups = torch.from_numpy(rng.integers(0, 4, copies)).repeat_interleave(2)
    scores = torch.from_numpy(rng.integers(0, 3, copies)).repeat_interleave(2).float()
    left = np.arange(0, 2 * copies, 2)
    expected = left[np.lexsort((left, -scores.numpy()[left]))][: copies // 2]
    assert best_apart(boxes, scores, groups, 0.5, copies // 2).tolist() == expected.tolist()
