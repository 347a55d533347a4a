"""Tables for one map size on maps of another."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from botvision.attention import adapt_relative_table, adapt_table
from botvision.attention.tables import resample

LENGTHS = st.integers(1, 40)


def relative_table(length):
    """Row of distance t holds t itself, and its square."""
    distance = torch.arange(1 - length, length, dtype=torch.float32)
    return torch.stack([distance, distance**2], dim=1)


@settings(max_examples=60, deadline=None)
@given(length=LENGTHS, surplus=LENGTHS)
def test_a_shorter_map_keeps_the_vector_of_every_distance(length, surplus):
    assert torch.equal(adapt_relative_table(relative_table(length + surplus), length), relative_table(length))


@settings(max_examples=200, deadline=None)
@given(length=LENGTHS, missing=LENGTHS)
def test_a_longer_map_stretches_the_table_from_end_to_end(length, missing):
    table = torch.randn(2 * length - 1, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(length))
    wanted = 2 * (length + missing) - 1
    expected = F.interpolate(table.T[None], size=wanted, mode="linear", align_corners=True)[0].T
    stretched = adapt_relative_table(table, length + missing)
    torch.testing.assert_close(stretched, expected)
    torch.testing.assert_close(stretched[wanted // 2], table[length - 1])


@settings(max_examples=60, deadline=None)
@given(have=LENGTHS, wanted=LENGTHS)
def test_absolute_tables_give_their_centre(have, wanted):
    table = torch.arange(have, dtype=torch.float32)[:, None]
    found = adapt_table(table, wanted)[:, 0]
    assert len(found) == wanted
    if wanted <= have:
        start = (have - wanted) // 2
        assert found.tolist() == list(range(start, start + wanted))
    elif have > 1:
        torch.testing.assert_close(found, torch.linspace(0, have - 1, wanted))


@settings(max_examples=60, deadline=None)
@given(have=LENGTHS, wanted=LENGTHS)
def test_the_form_without_branches_is_the_same(have, wanted):
    table = torch.randn(have, 3, generator=torch.Generator().manual_seed(have))
    expected = adapt_table(table, wanted)
    if wanted <= have:
        assert torch.equal(resample(table, wanted), expected)
    else:
        torch.testing.assert_close(resample(table, wanted), expected)


def test_a_table_without_a_middle_is_refused():
    with pytest.raises(ValueError, match="2L - 1 rows"):
        adapt_relative_table(torch.zeros(4, 2), 2)
