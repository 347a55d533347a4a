"""The best candidates, with many of equal scores, beside the order that NumPy finds."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from botvision.tasks.detection.ranking import best_first


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(1, 70))
def test_equal_scores_are_taken_in_their_order(numbers, most):
    scores = torch.tensor([numbers, numbers[::-1]], dtype=torch.float32)
    values, places = best_first(scores, most)
    for row, found, chosen in zip(scores.numpy(), values.numpy(), places.numpy(), strict=True):
        expected = np.lexsort((np.arange(len(row)), -row))[:most]
        assert chosen.tolist() == expected.tolist()
        assert found.tolist() == row[expected].tolist()
